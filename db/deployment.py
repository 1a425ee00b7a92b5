"""What the database stores about its deployment: the oldest suitable code, and a shared setting."""

import asyncpg

from db.queries import load

_sql = load("deployment")


async def min_code_revision(connection: asyncpg.Connection) -> str | None:
    """Return the oldest revision of code that may use the database, or None if none is stored."""
    try:
        revision: str | None = await _sql.min_code_revision(connection)
    except asyncpg.UndefinedTableError:
        return None
    return revision


# `db.migrate` runs it on alembic's connection.
SET_MIN_CODE_REVISION: str = _sql.set_min_code_revision.sql


async def get_role_address_limit(connection: asyncpg.Connection) -> int | None:
    """Return the ROLE_ADDRESS_LIMIT of all processes, or None if none is stored."""
    try:
        limit: int | None = await _sql.get_role_address_limit(connection)
    except asyncpg.UndefinedTableError:
        return None
    return limit


async def set_role_address_limit(connection: asyncpg.Connection, limit: int) -> None:
    """Store the ROLE_ADDRESS_LIMIT of all processes."""
    await _sql.set_role_address_limit(connection, limit=limit)
