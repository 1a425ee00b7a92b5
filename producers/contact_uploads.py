"""Contacts that a request lists in a file, of any length, in place of ids within it."""

import asyncio
from typing import BinaryIO, NamedTuple

import asyncpg

from db import uploads
from producers.contact_ids import blocks_of_ids
from producers.request_hash import IdsHash


class Listed(NamedTuple):
    """How many distinct ids a list has, and their hash."""

    number: int
    ids_hash: IdsHash


class ContactUpload:
    """A file of contact ids, for one request.

    It is read in a thread, a piece at a time, and Postgres puts the ids in order: memory is bounded
    whatever their number.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def stage(self, connection: asyncpg.Connection) -> Listed:
        """Bring the ids into the transaction, in order and each once; raises WrongInput."""
        await uploads.begin(connection)
        blocks = blocks_of_ids(self._file)
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            await uploads.add(connection, block)
        number = await uploads.put_in_order(connection)
        ids_hash = IdsHash()
        async for ordered in uploads.blocks(connection):
            ids_hash.add(ordered)
        return Listed(number, ids_hash)

    async def keep(self, connection: asyncpg.Connection, job_id: int) -> None:
        """Let them be what the job lists, in the same transaction."""
        await uploads.keep(connection, job_id)
