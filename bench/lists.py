"""Contact lists in the database for the measured jobs."""

from pathlib import Path
from typing import Any

import aiosql
import asyncpg

sql: Any = aiosql.from_path(
    Path(__file__).with_name("lists.sql"), "asyncpg", mandatory_parameters=False
)


async def fill(pool: asyncpg.Pool, account_id: int, contacts: int, *, mixed: bool = False) -> int:
    """Give the account contacts with two addresses each. Return the id of the first one.

    All addresses are `non_marketable` with one contact each. A `mixed` list is one that has been
    mailed for years: statuses of all classes, shared addresses, role addresses, propagated
    opt-outs.
    """
    async with pool.acquire() as connection, connection.transaction():
        first: int = await sql.next_ids(connection)
        row = {"account_id": account_id, "first": first, "contacts": contacts}
        await sql.make_contacts(connection, **row)
        await (sql.make_mixed_addresses if mixed else sql.make_addresses)(connection, **row)
        await (sql.make_mixed_links if mixed else sql.make_links)(connection, **row)
        async for _ in sql.move_sequences(connection, last=first + 2 * contacts):
            pass
    return first
