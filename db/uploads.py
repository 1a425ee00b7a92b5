"""Sort the list that a request brings in a file, in temporary tables of its transaction.

Postgres drops these tables when the transaction ends.
"""

from collections.abc import AsyncIterator, Sequence

import asyncpg

from db.jobs import CONTACTS_PER_BLOCK
from db.queries import load
from schemas.addresses import NormalizedAddress
from schemas.job_key import JobKey

_sql = load("uploads")

_BATCH_SIZE = 10_000


async def create_id_table(connection: asyncpg.Connection) -> None:
    """Create the temporary tables for the contact ids of one request."""
    await _sql.create_id_tables(connection)


async def copy_ids(connection: asyncpg.Connection, contact_ids: Sequence[int]) -> None:
    """Add contact ids to the temporary table by COPY, in any order, with or without duplicates."""
    await connection.copy_records_to_table(
        "listed_contacts", columns=("contact_ids",), records=[(contact_ids,)]
    )


async def sort_ids(connection: asyncpg.Connection) -> int:
    """Sort the uploaded ids without duplicates into blocks, and return how many ids there are."""
    return int(await _sql.sort_ids(connection, size=CONTACTS_PER_BLOCK))


async def read_blocks(connection: asyncpg.Connection) -> AsyncIterator[list[int]]:
    """Yield the sorted ids, one block of up to `CONTACTS_PER_BLOCK` at a time."""
    async with _sql.read_blocks_cursor(connection) as cursor:
        async for row in cursor:
            yield row["contact_ids"]


async def store_ids(connection: asyncpg.Connection, job: JobKey) -> None:
    """Store the sorted ids as the job's list."""
    await _sql.store_ids(connection, **job._asdict())


async def create_address_table(connection: asyncpg.Connection) -> None:
    """Create the temporary table for the addresses of one request."""
    await _sql.create_address_table(connection)


async def copy_addresses(
    connection: asyncpg.Connection, rows: Sequence[tuple[int, NormalizedAddress]]
) -> None:
    """Add addresses with their lines to the temporary table by COPY, duplicates included."""
    await connection.copy_records_to_table(
        "listed_addresses",
        columns=("line", "address", "match_key"),
        records=((line, *address) for line, address in rows),
    )


async def deduplicate_addresses(connection: asyncpg.Connection) -> int:
    """Keep the first address of each match key, and return how many there are."""
    await _sql.deduplicate_addresses(connection)
    return int(await _sql.count_addresses(connection))


async def count_unknown(connection: asyncpg.Connection, account_id: int) -> int:
    """Count the distinct uploaded addresses that the account does not know."""
    return int(await _sql.count_unknown(connection, account_id=account_id))


async def read_match_keys(connection: asyncpg.Connection) -> AsyncIterator[list[str]]:
    """Yield the distinct match keys in order, up to `_BATCH_SIZE` at a time."""
    async with _sql.read_match_keys_cursor(connection) as cursor:
        opened = await cursor
        while rows := await opened.fetch(_BATCH_SIZE):
            yield [row["match_key"] for row in rows]


async def store_addresses(connection: asyncpg.Connection, job: JobKey) -> None:
    """Store the distinct addresses as the job's list, in the order of the file."""
    await _sql.store_addresses(connection, **job._asdict())
