"""What a request lists in a file, in tables that are gone with the transaction."""

from collections.abc import AsyncIterator, Sequence

import asyncpg

from db.jobs import CONTACTS_PER_BLOCK
from db.queries import load
from schemas.addresses import NormalizedAddress
from schemas.job_key import JobKey

_sql = load("uploads")

_BATCH_SIZE = 10_000


async def create_id_table(connection: asyncpg.Connection) -> None:
    """Make room for the ids of one request; it is gone when the transaction ends."""
    await _sql.create_id_table(connection)
    await _sql.create_block_table(connection)


async def copy_ids(connection: asyncpg.Connection, contact_ids: Sequence[int]) -> None:
    """Keep some of them as they come, by COPY."""
    await connection.copy_records_to_table(
        "listed_contacts", columns=("contact_ids",), records=[(contact_ids,)]
    )


async def sort_ids(connection: asyncpg.Connection) -> int:
    """Let each id be there once and all be in order; gives how many there are."""
    count: int = await _sql.sort_ids(connection, size=CONTACTS_PER_BLOCK)
    return count


async def read_blocks(connection: asyncpg.Connection) -> AsyncIterator[list[int]]:
    """Yield all uploaded ids, a block at a time."""
    async with _sql.read_blocks_cursor(connection) as cursor:
        async for row in cursor:
            yield row["contact_ids"]


async def store_ids(connection: asyncpg.Connection, job: JobKey) -> None:
    """Store them as what the job's submitter listed."""
    await _sql.store_ids(connection, **job._asdict())


async def create_address_table(connection: asyncpg.Connection) -> None:
    """Make room for the addresses of one request; it is gone when the transaction ends."""
    await _sql.create_address_table(connection)


async def copy_addresses(
    connection: asyncpg.Connection, rows: Sequence[tuple[int, NormalizedAddress]]
) -> None:
    """Keep some of them as they come, with their lines, by COPY."""
    await connection.copy_records_to_table(
        "listed_addresses",
        columns=("line", "address", "match_key"),
        records=((line, *identity) for line, identity in rows),
    )


async def deduplicate_addresses(connection: asyncpg.Connection) -> int:
    """Let each be there once; gives how many there are."""
    await _sql.deduplicate_addresses(connection)
    count: int = await _sql.count_addresses(connection)
    return count


async def count_unknown(connection: asyncpg.Connection, account_id: int) -> int:
    """Count the uploaded ids or addresses that the account does not know."""
    count: int = await _sql.count_unknown(connection, account_id=account_id)
    return count


async def read_match_keys(connection: asyncpg.Connection) -> AsyncIterator[list[str]]:
    """Yield the distinct match keys in order, a few thousand at a time."""
    async with _sql.read_match_keys_cursor(connection) as cursor:
        opened = await cursor
        while rows := await opened.fetch(_BATCH_SIZE):
            yield [row["match_key"] for row in rows]


async def store_addresses(connection: asyncpg.Connection, job: JobKey) -> None:
    """Store them as what the job's submitter listed."""
    await _sql.store_addresses(connection, **job._asdict())
