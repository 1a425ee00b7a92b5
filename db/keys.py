"""API keys: their accounts, digests and scopes."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.accounts import Revocation
from db.queries import load

_sql = load("keys")


class ApiKeyRow(NamedTuple):
    """An active key; `digest` is the SHA-256 of its secret."""

    account_id: int
    account: str
    name: str
    digest: bytes
    scopes: frozenset[str]
    seconds_left: float | None


class ApiKeySummary(NamedTuple):
    """A key in a list, without its digest."""

    id: int
    account: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


async def insert_key(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    name: str,
    digest: bytes,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> int:
    """Insert a key and return its id."""
    key_id: int = await _sql.insert_key(
        connection,
        account_id=account_id,
        name=name,
        digest=digest,
        scopes=scopes,
        expires_at=expires_at,
    )
    return key_id


async def get_key(connection: asyncpg.Connection, key_id: int) -> ApiKeyRow | None:
    """Return the key; None if it does not exist, was revoked or has expired."""
    row = await _sql.get_key(connection, key_id=key_id)
    return ApiKeyRow(**{**row, "scopes": frozenset(row["scopes"])}) if row else None


async def is_active(connection: asyncpg.Connection, account_id: int, key_id: int) -> bool:
    """Return whether the key is neither revoked nor expired."""
    return bool(await _sql.is_active(connection, account_id=account_id, key_id=key_id))


async def list_active_digests(connection: asyncpg.Connection) -> dict[int, bytes]:
    """Return the digests of all active keys, by id."""
    return {row["id"]: row["digest"] async for row in _sql.list_active_digests(connection)}


async def record_use(
    connection: asyncpg.Connection, account_id: int, key_ids: Sequence[int]
) -> None:
    """Record that keys of the account are in use now."""
    await _sql.record_use(connection, account_id=account_id, key_ids=key_ids)


async def list_keys(
    connection: asyncpg.Connection, account_id: int | None = None
) -> list[ApiKeySummary]:
    """Return all keys, or those of one account, newest first."""
    return [ApiKeySummary(*row) async for row in _sql.list_keys(connection, account_id=account_id)]


async def revoke_key(connection: asyncpg.Connection, key_id: int) -> Revocation | None:
    """Revoke the key; return None if it does not exist."""
    account_id = await _sql.account_of_key(connection, key_id=key_id)
    if account_id is None:
        return None
    now = await _sql.revoke_key(connection, account_id=account_id, key_id=key_id)
    return Revocation(account_id, now)
