"""What the database keeps about the code that runs on it: which it suits, and a setting."""

import asyncpg

from db.queries import load

_sql = load("deployment")


async def min_code_revision(connection: asyncpg.Connection) -> str | None:
    """Return the oldest revision of code that may use the database; None where that is not kept."""
    try:
        revision: str | None = await _sql.min_code_revision(connection)
    except asyncpg.UndefinedTableError:
        return None
    return revision


# For `db.migrate`, which runs them on a connection of alembic's.
HAS_DEPLOYMENT: str = _sql.has_deployment.sql
SET_MIN_CODE_REVISION: str = _sql.set_min_code_revision.sql


async def get_shared_address_limit(connection: asyncpg.Connection) -> int | None:
    """Return the SHARED_ADDRESS_LIMIT that all processes are to have, or None."""
    limit: int | None = await _sql.get_shared_address_limit(connection)
    return limit


async def set_shared_address_limit(connection: asyncpg.Connection, limit: int) -> None:
    """Have this limit be the one that all processes are to have."""
    await _sql.set_shared_address_limit(connection, limit=limit)
