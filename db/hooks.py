"""Hooks: their accounts, and what their secrets are derived from."""

from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.accounts import Revocation
from db.queries import load

_sql = load("hooks")


class Hook(NamedTuple):
    """A hook and its account.

    `runtime.signing` derives its secrets from `salt` and the signing key `key_id`. If `key_id` is
    None, any of SIGNING_KEYS may be the key. After a renewal, the secrets from `former_salt` stay
    valid for some days.
    """

    id: int
    account_id: int
    account: str
    source: str
    salt: bytes
    revoked: bool
    key_id: str | None = None
    former_salt: bytes | None = None
    former_key_id: str | None = None

    def __repr__(self) -> str:
        return f"Hook(id={self.id})"


class HookSummary(NamedTuple):
    """A hook in a list, without what its secrets are derived from."""

    id: int
    account: str
    source: str
    created_at: datetime
    revoked_at: datetime | None
    key_id: str | None
    former_until: datetime | None
    former_key_id: str | None


async def insert_hook(
    connection: asyncpg.Connection, *, account_id: int, source: str, salt: bytes, key_id: str
) -> int:
    """Insert a hook and return its id."""
    hook_id: int = await _sql.insert_hook(
        connection, account_id=account_id, source=source, salt=salt, signing_key=key_id
    )
    return hook_id


async def get_hook(connection: asyncpg.Connection, hook_id: int) -> Hook | None:
    """Return the hook, even if it was revoked; None if it does not exist."""
    row = await _sql.get_hook(connection, hook_id=hook_id)
    return Hook(*row) if row else None


async def list_active_hooks(connection: asyncpg.Connection) -> dict[int, Hook]:
    """Return all hooks that were not revoked, by their ids."""
    return {row["id"]: Hook(*row) async for row in _sql.list_active_hooks(connection)}


async def renew_hook_secret(
    connection: asyncpg.Connection, hook_id: int, *, salt: bytes, key_id: str, former_days: int
) -> int | None:
    """Give the hook another salt and signing key; the former ones stay valid for `former_days`.

    Return the hook's account, or None if it does not exist or was revoked.
    """
    account_id: int | None = await _sql.account_of_hook(connection, hook_id=hook_id)
    renewed = await _sql.renew_hook_secret(
        connection,
        account_id=account_id,
        hook_id=hook_id,
        salt=salt,
        signing_key=key_id,
        former_days=former_days,
    )
    return account_id if renewed is not None else None


async def list_hooks(
    connection: asyncpg.Connection, account_id: int | None = None
) -> list[HookSummary]:
    """Return all hooks, or those of one account, newest first."""
    return [HookSummary(*row) async for row in _sql.list_hooks(connection, account_id=account_id)]


async def revoke_hook(connection: asyncpg.Connection, hook_id: int) -> Revocation | None:
    """Revoke the hook; return None if it does not exist."""
    account_id = await _sql.account_of_hook(connection, hook_id=hook_id)
    if account_id is None:
        return None
    now = await _sql.revoke_hook(connection, account_id=account_id, hook_id=hook_id)
    return Revocation(account_id, now)
