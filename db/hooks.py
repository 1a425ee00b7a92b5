"""Hooks in Postgres: where senders post what recipients did."""

from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load

_sql = load("hooks")


class Hook(NamedTuple):
    """A hook, and whose it is. Its secrets are derived from `salt` (`runtime.signing`)."""

    id: int
    account_id: int
    account: str
    source: str
    salt: bytes
    revoked: bool


class ListedHook(NamedTuple):
    """A hook as it is listed; nobody can tell from this how to sign."""

    id: int
    account: str
    source: str
    created_at: datetime
    revoked_at: datetime | None


class Revoked(NamedTuple):
    """Whose hook it was. `now` is False where it was revoked before."""

    account_id: int
    now: bool


async def insert_hook(
    connection: asyncpg.Connection, *, account_id: int, source: str, salt: bytes
) -> int:
    """Keep a hook; gives its id."""
    hook_id: int = await _sql.insert_hook(
        connection, account_id=account_id, source=source, salt=salt
    )
    return hook_id


async def hook_by_id(connection: asyncpg.Connection, hook_id: int) -> Hook | None:
    """The hook, revoked or not; None where there is none."""
    row = await _sql.hook_by_id(connection, hook_id=hook_id)
    return Hook(*row) if row else None


async def list_hooks(
    connection: asyncpg.Connection, account_id: int | None = None
) -> list[ListedHook]:
    """All hooks, or those of one account, newest first."""
    return [ListedHook(*row) async for row in _sql.hooks(connection, account_id=account_id)]


async def revoke_hook(connection: asyncpg.Connection, hook_id: int) -> Revoked | None:
    """Revoke the hook. Return None where there is none."""
    row = await _sql.revoke_hook(connection, hook_id=hook_id)
    return Revoked(*row) if row else None
