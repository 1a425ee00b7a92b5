"""What the database keeps about the code that runs on it: which it suits, and a setting."""

import asyncpg

from db.queries import load

_sql = load("deployment")


async def suits_from(connection: asyncpg.Connection) -> str | None:
    """Return the oldest revision of code that may use the database; None where that is not kept."""
    try:
        revision: str | None = await _sql.suits_from(connection)
    except asyncpg.UndefinedTableError:
        return None
    return revision


# For `db.migrate`, which runs them on a connection of alembic's.
KEEPS_SUITS_FROM: str = _sql.keeps_suits_from.sql
NOTE_SUITS_FROM: str = _sql.note_suits_from.sql


async def limit_in_force(connection: asyncpg.Connection) -> int | None:
    """Return the SHARED_ADDRESS_LIMIT that all processes are to have, or None."""
    limit: int | None = await _sql.limit_in_force(connection)
    return limit


async def put_limit_in_force(connection: asyncpg.Connection, limit: int) -> None:
    """Have this limit be the one that all processes are to have."""
    await _sql.put_limit_in_force(connection, limit=limit)
