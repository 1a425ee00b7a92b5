"""Contact lists in the database for the measured jobs to work on."""

from pathlib import Path
from typing import Any

import aiosql
import asyncpg

sql: Any = aiosql.from_path(
    Path(__file__).with_name("lists.sql"), "asyncpg", mandatory_parameters=False
)


async def fill(pool: asyncpg.Pool, account_id: int, contacts: int) -> None:
    """Give the account so many contacts with two `non_marketable` addresses of their own."""
    async with pool.acquire() as connection, connection.transaction():
        first = await sql.next_ids(connection)
        row = {"account_id": account_id, "first": first, "contacts": contacts}
        await sql.make_contacts(connection, **row)
        await sql.make_addresses(connection, **row)
        await sql.make_links(connection, **row)
        async for _ in sql.move_sequences(connection, last=first + 2 * contacts):
            pass


async def fill_mixed(pool: asyncpg.Pool, account_id: int, contacts: int) -> int:
    """Give the account contacts as a list has them that has been mailed for years: statuses of all
    classes, shared addresses, role addresses, opt-outs that have spread. Gives the first one's id.
    """
    async with pool.acquire() as connection, connection.transaction():
        first: int = await sql.next_ids(connection)
        row = {"account_id": account_id, "first": first, "contacts": contacts}
        await sql.make_contacts(connection, **row)
        await sql.make_mixed_addresses(connection, **row)
        await sql.make_mixed_links(connection, **row)
        async for _ in sql.move_sequences(connection, last=first + 2 * contacts):
            pass
    return first


async def settle(pool: asyncpg.Pool) -> None:
    """Bring the database to rest, so that a measurement pays for its own work only.

    Each measurement begins right after a checkpoint, and so writes whole pages to the log when
    it first touches them: the dearer case.
    """
    await pool.execute("vacuum (analyze) contacts, email_addresses, contact_emails")
    try:
        await pool.execute("checkpoint")
    except asyncpg.InsufficientPrivilegeError:
        return
