"""Ids that a request lists in a file: staged in tables that are gone with the transaction."""

from collections.abc import AsyncIterator, Sequence

import asyncpg

from db.jobs import CONTACTS_PER_BLOCK
from db.queries import load

_sql = load("uploads")


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
