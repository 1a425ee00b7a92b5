"""The privileges of the role that runs processes and commands: what they need, and no more."""

import asyncpg

from db.queries import load
from schemas.errors import UnsafeRole

_sql = load("grants")
_migrating = load("migrating")

_MAX_SHOWN = 5
"""How many of the excess privileges an error names."""


async def grants(connection: asyncpg.Connection, role: str) -> list[str]:
    """Return the statements that grant the role what it needs; raises UnsafeRole."""
    await _require_ordinary(connection, role)
    return [row["statement"] async for row in _sql.grants(connection, role=role)]


async def grant(connection: asyncpg.Connection, role: str) -> None:
    """Grant the role what it needs, and revoke any other grant. Repeating it changes nothing.

    Raises UnsafeRole if the connection is not the owner's, or if the role is unknown, a superuser,
    the tables' owner, or has more privileges another way. Then nothing is granted.
    """
    async with connection.transaction():
        # Two grants at the same time would update the same rows of the catalog.
        await _migrating.lock_migrations(connection)
        facts = await _require_ordinary(connection, role)
        if not facts["may_grant"]:
            # Postgres would only warn.
            raise UnsafeRole(
                f'The tables belong to "{facts["owner"]}", and "{facts["granted_by"]}" cannot grant'
                " what it does not own. Nothing was granted. Set OWNER_DATABASE_URL to the owner's"
                " URL, then try again."
            )
        allowed = set()
        rows = [row async for row in _sql.grants(connection, role=role)]
        for row in rows:
            await connection.execute(row["statement"])
            allowed |= {(row["name"], verb) for verb in row["verbs"] or ()}
        held = [(row["name"], row["verb"]) async for row in _sql.list_grants(connection, role=role)]
        if further := [f"{verb} on {name}" for name, verb in held if (name, verb) not in allowed]:
            more = f" and {len(further) - _MAX_SHOWN} more" if len(further) > _MAX_SHOWN else ""
            raise UnsafeRole(
                f'The role "{role}" has more privileges than it needs, from PUBLIC or from another'
                f" role: {', '.join(further[:_MAX_SHOWN])}{more}. Nothing was granted."
                " Revoke them there, or name a role that has none, then try again."
            )


async def _require_ordinary(connection: asyncpg.Connection, role: str) -> asyncpg.Record:
    facts = await _sql.read_role(connection, role=role)
    if facts is None:
        raise UnsafeRole(
            f'There is no role "{role}". Nothing was granted.'
            " Create it with `create role NAME login`, or check the name, then try again."
        )
    if facts["is_superuser"] or facts["acts_as_owner"]:
        kind = (
            "a superuser" if facts["is_superuser"] else f'the owner "{facts["owner"]}" or a member'
        )
        raise UnsafeRole(
            f'The role "{role}" is {kind}, and no grant limits that. Nothing was granted.'
            " Name a role that is neither a superuser nor an owner, then try again."
        )
    return facts
