"""API keys in Postgres: who may ask for what."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load

_sql = load("keys")


class KnownKey(NamedTuple):
    """A key that counts; `digest` is the SHA-256 of what its holder has."""

    account_id: int
    account: str
    name: str
    digest: bytes
    scopes: frozenset[str]


class ListedKey(NamedTuple):
    """A key as it is listed; nobody can tell from this what its holder has."""

    id: int
    account: str
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class Revoked(NamedTuple):
    """Whose key it was. `now` is False where it was revoked before."""

    account_id: int
    now: bool


async def insert_key(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    name: str,
    digest: bytes,
    scopes: Sequence[str],
) -> int:
    """Keep a key; gives its id."""
    key_id: int = await _sql.insert_key(
        connection, account_id=account_id, name=name, digest=digest, scopes=scopes
    )
    return key_id


async def key_by_id(connection: asyncpg.Connection, key_id: int) -> KnownKey | None:
    """The key, unless there is none or it was revoked."""
    row = await _sql.key_by_id(connection, key_id=key_id)
    return KnownKey(**{**row, "scopes": frozenset(row["scopes"])}) if row else None


async def list_keys(
    connection: asyncpg.Connection, account_id: int | None = None
) -> list[ListedKey]:
    """All keys, or those of one account, newest first."""
    return [ListedKey(*row) async for row in _sql.keys(connection, account_id=account_id)]


async def revoke_key(connection: asyncpg.Connection, key_id: int) -> Revoked | None:
    """Revoke the key. Return None where there is none."""
    row = await _sql.revoke_key(connection, key_id=key_id)
    return Revoked(*row) if row else None
