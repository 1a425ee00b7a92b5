"""Lists that a request brings in a file, of any length, in place of one within it.

A file is read in a thread, a piece at a time, and Postgres puts the list in order: memory is
bounded whatever its length.
"""

import asyncio
from typing import BinaryIO, ClassVar, NamedTuple, Protocol

import asyncpg

from db import imports, uploads
from producers.address_files import read_addresses
from producers.contact_id_files import read_contact_ids
from producers.plausibility import split_plausible
from producers.request_hash import ListHash
from schemas.errors import InvalidRequest
from schemas.staging import ImportRejection


class ListSummary(NamedTuple):
    """The number of distinct ids, or addresses, in a list, and their hash.

    `name` is the list's name in a selection, and `unknown` the number of its unknown addresses.
    """

    name: str
    number: int
    list_hash: ListHash
    unknown: int | None = None


class Upload(Protocol):
    """A file for one request."""

    async def stage(self, connection: asyncpg.Connection, account_id: int) -> ListSummary:
        """Bring the list into the transaction, in order and each once; raises InvalidRequest."""
        ...

    async def keep(self, connection: asyncpg.Connection, account_id: int, job_id: int) -> None:
        """Let it be what the job lists, in the same transaction."""
        ...


class ContactUpload:
    """A file of contact ids. A line that is not one refuses the whole file."""

    name: ClassVar = "contacts"

    def __init__(self, file: BinaryIO, encoding: str = "utf-8") -> None:
        self._file = file
        self._encoding = encoding

    async def stage(self, connection: asyncpg.Connection, account_id: int) -> ListSummary:
        """See `Upload`; raises InvalidRequest for a file without any id as well."""
        del account_id
        await uploads.create_id_table(connection)
        blocks = read_contact_ids(self._file, self._encoding)
        listed = 0
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            listed += len(block)
            if listed > MAX_IDS:
                raise InvalidRequest(
                    f"The file lists more than {MAX_IDS:,} contacts; nothing was stored. Give them"
                    " in several files, or select them by a tag."
                )
            await uploads.copy_ids(connection, block)
        number = await uploads.sort_ids(connection)
        if not number:
            raise InvalidRequest(
                "The file lists no contact id. Nothing was stored. Give one id a line, or CSV with"
                " a column `contact_id`."
            )
        list_hash = ListHash()
        async for ordered in uploads.read_blocks(connection):
            list_hash.add(ordered)
        return ListSummary(self.name, number, list_hash)

    async def keep(self, connection: asyncpg.Connection, account_id: int, job_id: int) -> None:
        """See `Upload`."""
        await uploads.store_ids(connection, account_id, job_id)


class AddressUpload:
    """A file of addresses. What is not one is left out, and stored with its line and reason."""

    name: ClassVar = "addresses"

    def __init__(self, file: BinaryIO, encoding: str = "utf-8") -> None:
        self._file = file
        self._encoding = encoding
        self._rejections: list[ImportRejection] = []

    async def stage(self, connection: asyncpg.Connection, account_id: int) -> ListSummary:
        """See `Upload`; raises InvalidRequest for a file without any address as well."""
        await uploads.create_address_table(connection)
        blocks = read_addresses(self._file, self._encoding)
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            meant = await split_plausible(connection, account_id, block.doubtful)
            await uploads.copy_addresses(connection, block.rows + meant.rows)
            self._refuse(block.rejections + meant.rejections)
        number = await uploads.deduplicate_addresses(connection)
        if not number:
            raise InvalidRequest(
                "The file lists no email address. Nothing was stored. Give one address a line, or"
                f" CSV with a column `email` or `address`.{self._first_rejection()}"
            )
        unknown = await uploads.count_unknown(connection, account_id)
        list_hash = ListHash()
        async for match_keys in uploads.read_match_keys(connection):
            list_hash.add(match_keys)
        return ListSummary(self.name, number, list_hash, unknown)

    def _first_rejection(self) -> str:
        first = next(iter(self._rejections), None)
        return f" Line {first.line}: {first.detail}" if first else ""

    def _refuse(self, rejections: list[ImportRejection]) -> None:
        self._rejections += rejections
        if len(self._rejections) > MAX_REJECTIONS:
            raise InvalidRequest(
                f"More than {MAX_REJECTIONS:,} lines of the file are no addresses, so it is"
                " hardly a"
                f" list of addresses. Nothing was stored.{self._first_rejection()}"
            )

    async def keep(self, connection: asyncpg.Connection, account_id: int, job_id: int) -> None:
        """See `Upload`."""
        await uploads.store_addresses(connection, account_id, job_id)
        await imports.insert_import_rejections(
            connection, account_id=account_id, job_id=job_id, rejections=self._rejections
        )


MAX_IDS = 50_000_000
"""So many ids of one list Postgres puts in order in an array, of which none has more than 1 GB."""

MAX_REJECTIONS = 100_000
"""More lines than this are not kept as refused."""
