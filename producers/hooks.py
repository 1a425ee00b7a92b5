"""Hooks: where senders without an API key post what recipients did.

A sender that can sign posts signed JSON. One that cannot, such as an automation that only knows
"send an http post to another server", posts a form to an unguessable URL.
"""

import secrets
from typing import NamedTuple

import asyncpg
from pydantic import TypeAdapter, ValidationError

from db import activity, hooks
from db.hooks import Hook
from producers.invalid_request import shorten
from producers.recipient_events import SourceName
from producers.submit import require_account
from runtime import events, logs
from runtime.settings import Settings
from runtime.signing import (
    hook_secret,
    hook_token,
    is_hook_token,
    parse_hook_token,
    signing_key_id,
    signing_key_ids,
)
from schemas.actors import PYTHON, ActivityEvent, Actor
from schemas.errors import InvalidRequest, NotFound
from schemas.requests import MAX_ID

log = logs.get_logger()

_SALT_BYTES = 16
_SOURCE = TypeAdapter(SourceName)

FORMER_DAYS = 7
"""For how long what a hook had before it was renewed counts, unless something else is said."""

MAX_FORMER_DAYS = 366

DUMMY_HOOK = Hook(0, 0, "", "", secrets.token_bytes(_SALT_BYTES), revoked=True, key_id="")
"""What stands in for a hook that there is not, so that its messages take the same steps."""

_MIN_SECRETS = 2
_DUMMY_SECRET = secrets.token_hex(32)


class NewHook(NamedTuple):
    """A new hook. The secret and the token in `form_path` can be derived again, but are not shown
    again.
    """

    id: int
    form_path: str
    events_path: str
    secret: str

    def __repr__(self) -> str:
        return f"NewHook(id={self.id})"


async def create_hook(
    pool: asyncpg.Pool, settings: Settings, *, account: str, source: str, actor: Actor = PYTHON
) -> NewHook:
    """Create a hook of an account; raises InvalidRequest, NotFound (a kind of it) and
    SettingsError.
    """
    key_id = signing_key_id(settings)
    try:
        _SOURCE.validate_python(source)
    except ValidationError:
        raise InvalidRequest(
            f"{shorten(source)!r} cannot be the source of a hook. Nothing was made. Use one word"
            " of up to 100 letters, digits, dots, colons, dashes and underscores, such as keap."
        ) from None
    salt = secrets.token_bytes(_SALT_BYTES)
    async with pool.acquire() as connection, connection.transaction():
        account_id = await require_account(connection, account)
        hook_id = await hooks.insert_hook(
            connection, account_id=account_id, source=source, salt=salt, key_id=key_id
        )
        await activity.record(
            connection,
            ActivityEvent.HOOK_CREATED,
            actor,
            account_id=account_id,
            hook_id=hook_id,
            detail={"source": source},
        )
    log.info(events.HOOK_CREATED, hook=hook_id, account=account_id, **actor.log_keys())
    return _made(settings, hook_id, salt)


async def rotate_hook_secret(
    pool: asyncpg.Pool,
    settings: Settings,
    hook_id: int,
    *,
    former_days: int = FORMER_DAYS,
    actor: Actor = PYTHON,
) -> NewHook:
    """Give a hook another secret and form URL; the former ones stay valid for so many days.

    Raises InvalidRequest, NotFound if the hook does not exist or was revoked, and SettingsError.
    """
    key_id, salt = signing_key_id(settings), secrets.token_bytes(_SALT_BYTES)
    if not 0 <= former_days <= MAX_FORMER_DAYS:
        raise InvalidRequest(
            f"The former secret cannot count for {former_days} days more. Nothing was changed. Give"
            f" 0 to {MAX_FORMER_DAYS} days."
        )
    async with pool.acquire() as connection, connection.transaction():
        account_id = None
        if 0 < hook_id <= MAX_ID:
            account_id = await hooks.rotate_hook_secret(
                connection, hook_id, salt=salt, key_id=key_id, former_days=former_days
            )
        if account_id is None:
            raise NotFound(
                f"There is no hook {hook_id} that counts. Nothing was changed. `sluice hooks list`"
                " lists the hooks there are."
            )
        await activity.record(
            connection,
            ActivityEvent.HOOK_RENEWED,
            actor,
            account_id=account_id,
            hook_id=hook_id,
            detail={"former_days": former_days},
        )
    log.info(
        events.HOOK_RENEWED,
        hook=hook_id,
        account=account_id,
        former_days=former_days,
        **actor.log_keys(),
    )
    return _made(settings, hook_id, salt)


def _made(settings: Settings, hook_id: int, salt: bytes) -> NewHook:
    return NewHook(
        hook_id,
        f"/v1/hooks/form/{hook_token(settings, hook_id, salt)}",
        f"/v1/hooks/{hook_id}/events",
        hook_secret(settings, hook_id, salt),
    )


async def revoke_hook(pool: asyncpg.Pool, hook_id: int, *, actor: Actor = PYTHON) -> None:
    """Let the hook take no more, from the next request on; raises NotFound."""
    async with pool.acquire() as connection, connection.transaction():
        revoked = await hooks.revoke_hook(connection, hook_id) if 0 < hook_id <= MAX_ID else None
        if revoked is None:
            raise NotFound(
                f"There is no hook {hook_id}. `sluice hooks list` lists the hooks there are."
            )
        if not revoked.now:
            return
        await activity.record(
            connection,
            ActivityEvent.HOOK_REVOKED,
            actor,
            account_id=revoked.account_id,
            hook_id=hook_id,
        )
    log.info(events.HOOK_REVOKED, hook=hook_id, account=revoked.account_id, **actor.log_keys())


def parse_form_token(token: str) -> int | None:
    """Return the id of the hook that a form's token claims to be of; `is_token_of_hook` has to
    confirm it.
    """
    return parse_hook_token(token)


def is_token_of_hook(settings: Settings, hook: Hook, token: str) -> bool:
    """Return whether the token was made for the hook."""
    former = hook.salt if hook.former_salt is None else hook.former_salt
    return is_hook_token(settings, token, hook.id, (hook.salt, former))


def hook_secrets(settings: Settings, hook: Hook) -> list[str]:
    """Return the hook's valid secrets, filled up with one that no sender has.

    So as many are tried for each hook, existing or not. A key that is no longer listed gives none.
    """
    derived = [(hook.salt, hook.key_id)]
    if hook.former_salt is not None:
        derived.append((hook.former_salt, hook.former_key_id))
    listed = signing_key_ids(settings)
    found = [
        hook_secret(settings, hook.id, salt, key_id=each)
        for salt, key_id in derived
        for each in (listed if key_id is None else [key_id])
        if each in listed
    ]
    return found + [_DUMMY_SECRET] * max(0, _MIN_SECRETS - len(found))
