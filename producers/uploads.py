"""Lists of any length that a request brings in a file.

A thread reads the file in blocks, and Postgres sorts the list, so memory is bounded.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, ClassVar, NamedTuple

import asyncpg

from db import imports, uploads
from producers.address_files import read_addresses
from producers.contact_id_files import read_contact_ids
from producers.import_rejections import reject
from producers.plausibility import find_implausible
from producers.request_hash import ListHash
from schemas.errors import InvalidRequest
from schemas.job_key import JobKey
from schemas.staging import ImportRejection
from schemas.staging import ImportRejectionReason as Reason


class ListSummary(NamedTuple):
    """The number and hash of a list's distinct ids or addresses.

    `name` is the name of the list in a selection. `unknown` counts the addresses that the account
    does not know.
    """

    name: str
    number: int
    list_hash: ListHash
    unknown: int | None = None


@dataclass
class ContactUpload:
    """A file of contact ids; one invalid id makes the whole file invalid."""

    name: ClassVar = "contacts"
    file: BinaryIO
    encoding: str = "utf-8"

    async def stage(self, connection: asyncpg.Connection, account_id: int) -> ListSummary:
        """Read the distinct ids into a temporary table; raises InvalidRequest, also for no ids."""
        del account_id
        await uploads.create_id_table(connection)
        blocks = read_contact_ids(self.file, self.encoding)
        listed = 0
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            listed += len(block)
            if listed > MAX_IDS:
                raise InvalidRequest(
                    f"The file lists more than {MAX_IDS:,} contacts. Nothing was stored. Give them"
                    " in several files, or select them by a tag."
                )
            await uploads.copy_ids(connection, block)
        number = await uploads.sort_ids(connection)
        if not number:
            raise InvalidRequest(
                "The file lists no contact id. Nothing was stored. Give one id per line, or CSV"
                " with a column `contact_id`."
            )
        list_hash = ListHash()
        async for ordered in uploads.read_blocks(connection):
            list_hash.add(ordered)
        return ListSummary(self.name, number, list_hash)

    async def keep(self, connection: asyncpg.Connection, job: JobKey) -> None:
        """Store the list as the job's, in the same transaction."""
        await uploads.store_ids(connection, job)


@dataclass
class AddressUpload:
    """A file of addresses; invalid lines are stored as import rejections."""

    name: ClassVar = "addresses"
    file: BinaryIO
    encoding: str = "utf-8"
    _rejections: list[ImportRejection] = field(default_factory=list, init=False)

    async def stage(self, connection: asyncpg.Connection, account_id: int) -> ListSummary:
        """Read the distinct addresses into a temporary table; raises InvalidRequest for none."""
        await uploads.create_address_table(connection)
        blocks = read_addresses(self.file, self.encoding)
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            wrong = await find_implausible(connection, account_id, block.doubtful)
            plausible = [
                (each.line, each.normalized) for each in block.doubtful if each not in wrong
            ]
            await uploads.copy_addresses(connection, block.rows + plausible)
            implausible = [
                reject(each.line, Reason.INVALID_ADDRESS, cell=each.normalized.address, why=why)
                for each, why in wrong.items()
            ]
            self._reject(block.rejections + implausible)
        number = await uploads.deduplicate_addresses(connection)
        if not number:
            raise InvalidRequest(
                "The file lists no email address. Nothing was stored. Give one address per line, or"
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

    def _reject(self, rejections: list[ImportRejection]) -> None:
        self._rejections += rejections
        if len(self._rejections) > MAX_REJECTIONS:
            raise InvalidRequest(
                f"More than {MAX_REJECTIONS:,} lines of the file have no valid address. Nothing was"
                f" stored. Check that it is a list of addresses.{self._first_rejection()}"
            )

    async def keep(self, connection: asyncpg.Connection, job: JobKey) -> None:
        """Store the list as the job's, in the same transaction."""
        await uploads.store_addresses(connection, job)
        await imports.insert_import_rejections(connection, job, rejections=self._rejections)


Upload = ContactUpload | AddressUpload
"""The file of one request."""

UPLOAD_TYPES: dict[str, Callable[[BinaryIO, str], Upload]] = {
    each.name: each for each in (ContactUpload, AddressUpload)
}
"""The lists that may come in a file, by their names in a selection."""

MAX_IDS = 50_000_000
"""Ids in one list: Postgres sorts them in an array, and a value has at most 1 GB."""

MAX_REJECTIONS = 100_000
"""Import rejections that are stored for one list."""
