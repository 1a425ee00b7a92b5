"""What a request lists in a file, in tables that are gone with the transaction."""

from collections.abc import AsyncIterator, Sequence

import asyncpg

from db.jobs import CONTACTS_PER_BLOCK
from db.queries import load
from schemas.addresses import Identity

_sql = load("uploads")

_KEYS_AT_ONCE = 10_000


async def begin(connection: asyncpg.Connection) -> None:
    """Make room for the ids of one request; it is gone when the transaction ends."""
    await _sql.make_listed(connection)
    await _sql.make_blocks(connection)


async def add(connection: asyncpg.Connection, contact_ids: Sequence[int]) -> None:
    """Keep some of them as they come, by COPY."""
    await connection.copy_records_to_table(
        "listed_contacts", columns=("contact_ids",), records=[(contact_ids,)]
    )


async def put_in_order(connection: asyncpg.Connection) -> int:
    """Let each id be there once and all be in order; gives how many there are."""
    count: int = await _sql.put_in_order(connection, size=CONTACTS_PER_BLOCK)
    return count


async def blocks(connection: asyncpg.Connection) -> AsyncIterator[list[int]]:
    """All of them, a block at a time."""
    async with _sql.blocks_cursor(connection) as cursor:
        async for row in cursor:
            yield row["contact_ids"]


async def keep(connection: asyncpg.Connection, job_id: int) -> None:
    """Store them as what the job's submitter listed."""
    await _sql.keep(connection, job_id=job_id)


async def begin_addresses(connection: asyncpg.Connection) -> None:
    """Make room for the addresses of one request; it is gone when the transaction ends."""
    await _sql.make_listed_addresses(connection)


async def add_addresses(
    connection: asyncpg.Connection, rows: Sequence[tuple[int, Identity]]
) -> None:
    """Keep some of them as they come, with their lines, by COPY."""
    await connection.copy_records_to_table(
        "listed_addresses",
        columns=("line", "address", "match_key"),
        records=((line, *identity) for line, identity in rows),
    )


async def let_each_address_be_once(connection: asyncpg.Connection) -> int:
    """Let each be there once; gives how many there are."""
    await _sql.let_each_be_once(connection)
    count: int = await _sql.count_addresses(connection)
    return count


async def count_unknown(connection: asyncpg.Connection, account_id: int) -> int:
    """How many of them the account does not know."""
    count: int = await _sql.count_unknown(connection, account_id=account_id)
    return count


async def match_keys(connection: asyncpg.Connection) -> AsyncIterator[list[str]]:
    """The keys of all of them in order, some thousands at a time."""
    async with _sql.match_keys_cursor(connection) as cursor:
        opened = await cursor
        while rows := await opened.fetch(_KEYS_AT_ONCE):
            yield [row["match_key"] for row in rows]


async def keep_addresses(connection: asyncpg.Connection, job_id: int) -> None:
    """Store them as what the job's submitter listed."""
    await _sql.keep_addresses(connection, job_id=job_id)
