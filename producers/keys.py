"""API keys: made once, shown once, and known by their digest alone."""

import hashlib
import hmac
import math
import re
import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from db import activity, keys
from producers.invalid_request import require_storable, shorten
from producers.submit import require_account
from runtime import events, logs
from schemas.actors import PYTHON, ActivityEvent, Actor, ActorKind, Via
from schemas.errors import InvalidRequest, NotFound
from schemas.requests import MAX_ID

log = logs.get_logger()

_SECRET_BYTES = 32
_KEY = re.compile(r"sluice_([0-9]{1,19})_([A-Za-z0-9_-]{43})").fullmatch
_MAX_NAME_LENGTH = 200
_DAYS = re.compile(r"([0-9]{1,5})d", re.ASCII).fullmatch
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII).fullmatch
MAX_DAYS = 36_500
"""How far ahead the end of a key may be."""


class Scope(StrEnum):
    """What a key allows."""

    JOBS_WRITE = "jobs:write"
    JOBS_READ = "jobs:read"
    OPT_OUTS_WRITE = "opt_outs:write"
    ADDRESSES_READ = "addresses:read"


class NewKey(NamedTuple):
    """A new key; `token` is what its holder sends, and is not to be had again."""

    id: int
    token: str


class Caller(NamedTuple):
    """Whose key a request came with, and for how many seconds it will count."""

    key_id: int
    key_name: str
    account_id: int
    account: str
    scopes: frozenset[str]
    seconds_left: float = math.inf

    @property
    def actor(self) -> Actor:
        """Who a job or an act of this caller is by."""
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
    """Create an API key of an account; raises InvalidRequest and NotFound, a kind of it."""
    require_storable("The key's name", name)
    if not name.strip() or len(name) > _MAX_NAME_LENGTH:
        raise InvalidRequest(
            f"A key needs a name of at most {_MAX_NAME_LENGTH} characters. Nothing was made."
            " Name who"
            " will use it: jobs show the name as who asked."
        )
    if not scopes:
        raise InvalidRequest(
            f"A key needs a scope. Nothing was made. There are: {', '.join(Scope)}."
        )
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    async with pool.acquire() as connection, connection.transaction():
        account_id = await require_account(connection, account)
        key_id = await keys.insert_key(
            connection,
            account_id=account_id,
            name=name.strip(),
            digest=_digest(secret),
            scopes=sorted(set(scopes)),
            expires_at=expires_at,
        )
        await activity.record(
            connection,
            ActivityEvent.KEY_CREATED,
            actor,
            account_id=account_id,
            key_id=key_id,
            detail={"scopes": sorted(set(scopes))},
        )
    log.info(events.KEY_CREATED, key=key_id, account=account_id, **actor.log_keys())
    return NewKey(key_id, f"sluice_{key_id}_{secret}")


async def revoke_key(pool: asyncpg.Pool, key_id: int, *, actor: Actor = PYTHON) -> None:
    """Let the key count no more, in web processes a second later at most; raises NotFound."""
    async with pool.acquire() as connection, connection.transaction():
        revoked = await keys.revoke_key(connection, key_id) if 0 < key_id <= MAX_ID else None
        if revoked is None:
            raise NotFound(
                f"There is no key {key_id}. `sluice keys list` lists the keys there are."
            )
        if not revoked.now:
            return
        await activity.record(
            connection,
            ActivityEvent.KEY_REVOKED,
            actor,
            account_id=revoked.account_id,
            key_id=key_id,
        )
    log.info(events.KEY_REVOKED, key=key_id, account=revoked.account_id, **actor.log_keys())


async def find_caller(connection: asyncpg.Connection, token: str) -> Caller | None:
    """Return the caller whose key this is; None if it does not exist, was revoked or has
    expired.
    """
    key_id, digest = parse_key_token(token)
    known = await keys.get_key(connection, key_id) if key_id else None
    # What was drawn from 256 bits needs no slow digest.
    if known is None or not hmac.compare_digest(known.digest, digest):
        return None
    left = math.inf if known.seconds_left is None else known.seconds_left
    return Caller(key_id, known.name, known.account_id, known.account, known.scopes, left)


def parse_key_token(token: str) -> tuple[int, bytes]:
    """Return the id of the key that the token claims to be, and the digest that key must have.

    The id is 0 if the token does not have the form of a key.
    """
    parts = _KEY(token)
    if parts is None or not 0 < (key_id := int(parts[1])) <= MAX_ID:
        return 0, b""
    return key_id, _digest(parts[2])


def parse_expiry(text: str, now: datetime | None = None) -> datetime:
    """Parse an expiry: `90d`, or a day such as `2027-01-01`, which means its beginning in UTC.

    Raises InvalidRequest if it is not in the future.
    """
    now = now or datetime.now(UTC)
    moment = None
    if days := _DAYS(text):
        moment = now + timedelta(days=min(int(days[1]), MAX_DAYS + 1))
    elif _DATE(text):
        try:
            moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            moment = None
    if moment is None:
        raise InvalidRequest(
            f"{shorten(text)!r} is neither a day nor a number of days. Nothing was made. Give the"
            " end of the key as 2027-01-01 (UTC) or as 90d."
        )
    if not now < moment <= now + timedelta(days=MAX_DAYS):
        raise InvalidRequest(
            f"A key cannot end on {moment.date()}. Nothing was made. Give a day to come, at most"
            f" {MAX_DAYS:,} days from now."
        )
    return moment


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
