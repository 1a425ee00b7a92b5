"""API keys: created and shown once, and stored as a digest only."""

import hashlib
import hmac
import math
import re
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from db import keys
from producers.accounts import require_account
from producers.invalid_request import require_storable, shorten
from producers.recorded_changes import recorded_change
from runtime import events
from schemas.actors import PYTHON, Actor, ActorKind, Via
from schemas.errors import InvalidRequest, NotFound
from schemas.requests import MAX_ID

_SECRET_BYTES = 32
_KEY = re.compile(r"sluice_([0-9]{1,19})_([A-Za-z0-9_-]{43})").fullmatch
_MAX_NAME_LENGTH = 200
_EXPIRY = re.compile(r"([0-9]{1,5})d|[0-9]{4}-[0-9]{2}-[0-9]{2}").fullmatch
MAX_DAYS = 36_500
"""The longest time until a key expires."""


class Scope(StrEnum):
    """A permission of a key."""

    JOBS_WRITE = "jobs:write"
    JOBS_READ = "jobs:read"
    OPT_OUTS_WRITE = "opt_outs:write"
    ADDRESSES_READ = "addresses:read"


class NewKey(NamedTuple):
    """A new key; `secret` is what the client sends, which cannot be shown again."""

    id: int
    secret: str


class Caller(NamedTuple):
    """The holder of a request's key, which expires in `seconds_left`."""

    key_id: int
    key_name: str
    account_id: int
    account: str
    scopes: frozenset[str]
    seconds_left: float = math.inf

    @property
    def actor(self) -> Actor:
        """The actor of this caller's jobs and changes."""
        return Actor(ActorKind.KEY, Via.HTTP, self.key_id)


async def create_key(
    pool: asyncpg.Pool,
    *,
    account: str,
    name: str,
    scopes: list[Scope],
    expires_at: datetime | None = None,
    actor: Actor = PYTHON,
) -> NewKey:
    """Create a key of the account; raises InvalidRequest and NotFound."""
    require_storable("The key's name", name)
    if not name.strip() or len(name) > _MAX_NAME_LENGTH:
        raise InvalidRequest(
            f"A key needs a name of at most {_MAX_NAME_LENGTH} characters. Nothing was created."
            " Name the user of the key: jobs show the name as the requester."
        )
    if not scopes:
        raise InvalidRequest(
            f"A key needs a scope. Nothing was created. The scopes are: {', '.join(Scope)}."
        )
    distinct = sorted(set(scopes))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    async with recorded_change(pool, events.KEY_CREATED, actor) as change:
        account_id = await require_account(change.connection, account)
        key_id = await keys.insert_key(
            change.connection,
            account_id=account_id,
            name=name.strip(),
            digest=_digest(secret),
            scopes=distinct,
            expires_at=expires_at,
        )
        await change.record(account_id=account_id, key_id=key_id, detail={"scopes": distinct})
    return NewKey(key_id, f"sluice_{key_id}_{secret}")


async def revoke_key(pool: asyncpg.Pool, key_id: int, *, actor: Actor = PYTHON) -> None:
    """Revoke the key; web processes reject it a second later at most. Raises NotFound."""
    async with recorded_change(pool, events.KEY_REVOKED, actor) as change:
        known = 0 < key_id <= MAX_ID
        revoked = await keys.revoke_key(change.connection, key_id) if known else None
        if revoked is None:
            raise NotFound(f"There is no key {key_id}. `sluice keys list` lists the keys.")
        if revoked.now:
            await change.record(account_id=revoked.account_id, key_id=key_id)


async def find_caller(connection: asyncpg.Connection, key: str) -> Caller | None:
    """Return the key's holder; None for a wrong, revoked or expired key."""
    key_id, digest = parse_key(key)
    known = await keys.get_key(connection, key_id) if key_id else None
    # A random secret of 256 bits needs no slow digest.
    if known is None or not hmac.compare_digest(known.digest, digest):
        return None
    left = math.inf if known.seconds_left is None else known.seconds_left
    return Caller(key_id, known.name, known.account_id, known.account, known.scopes, left)


def parse_key(key: str) -> tuple[int, bytes]:
    """Return the id in the key, and the digest that the key with this id must have.

    The id is 0 for a malformed key.
    """
    parts = _KEY(key)
    if parts is None or not 0 < (key_id := int(parts[1])) <= MAX_ID:
        return 0, b""
    return key_id, _digest(parts[2])


def parse_expiry(text: str, now: datetime | None = None) -> datetime:
    """Return the moment of `90d` (90 days from now) or `2027-01-01` (its first moment, in UTC).

    Raises InvalidRequest for anything else, for the past, and beyond `MAX_DAYS`.
    """
    now = now or datetime.now(UTC)
    found = _EXPIRY(text)
    try:
        if found and found[1]:
            moment = now + timedelta(days=min(int(found[1]), MAX_DAYS + 1))
        else:
            moment = datetime.fromisoformat(text if found else "").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequest(
            f"{shorten(text)!r} is neither a date nor a number of days. Nothing was created. Give"
            " the key's expiry as 2027-01-01 (UTC) or as 90d."
        ) from None
    if not now < moment <= now + timedelta(days=MAX_DAYS):
        raise InvalidRequest(
            f"A key cannot expire on {moment.date()}. Nothing was created. Give a future date, at"
            f" most {MAX_DAYS:,} days from now."
        )
    return moment


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
