"""Hooks: endpoints where senders without an API key report opt-outs.

A sender that can sign posts signed JSON. Any other, such as an automation that can only "send an
http post to another server", posts a form to a secret URL.
"""

import secrets
from typing import NamedTuple

import asyncpg
from pydantic import TypeAdapter, ValidationError

from db import hooks
from db.hooks import Hook
from producers.accounts import require_account
from producers.invalid_request import shorten
from producers.recipient_events import SourceName
from producers.recorded_changes import recorded_change
from runtime import events
from runtime.settings import Settings
from runtime.signing import (
    hook_secret,
    hook_token,
    is_hook_token,
    signing_key_id,
    signing_key_ids,
)
from schemas.actors import PYTHON, Actor
from schemas.errors import InvalidRequest, NotFound
from schemas.requests import MAX_ID

_SALT_BYTES = 16
_SOURCE = TypeAdapter(SourceName)

FORMER_DAYS = 7
"""How long the former secret and form URL of a renewed hook stay valid, by default."""

MAX_FORMER_DAYS = 366

DUMMY_HOOK = Hook(0, 0, "", "", secrets.token_bytes(_SALT_BYTES), revoked=True, key_id="")
"""Stands in for a hook that does not exist, so that its requests take the same steps."""

_MIN_SECRETS = 2
_DUMMY_SECRET = secrets.token_hex(32)


class NewHook(NamedTuple):
    """A new hook. Its secret, and the token in `form_path`, are not shown again."""

    id: int
    form_path: str
    events_path: str
    secret: str

    def __repr__(self) -> str:
        return f"NewHook(id={self.id})"


async def create_hook(
    pool: asyncpg.Pool, settings: Settings, *, account: str, source: str, actor: Actor = PYTHON
) -> NewHook:
    """Create a hook of the account; raises InvalidRequest, NotFound and SettingsError."""
    key_id = signing_key_id(settings)
    try:
        _SOURCE.validate_python(source)
    except ValidationError:
        raise InvalidRequest(
            f"{shorten(source)!r} cannot be the source of a hook. Nothing was created. Use one"
            " word, such as keap, of up to 100 letters, digits, dots, colons, dashes and"
            " underscores."
        ) from None
    salt = secrets.token_bytes(_SALT_BYTES)
    async with recorded_change(pool, events.HOOK_CREATED, actor) as change:
        account_id = await require_account(change.connection, account)
        hook_id = await hooks.insert_hook(
            change.connection, account_id=account_id, source=source, salt=salt, key_id=key_id
        )
        await change.record(account_id=account_id, hook_id=hook_id, detail={"source": source})
    return _new_hook(settings, hook_id, salt)


async def renew_hook_secret(
    pool: asyncpg.Pool,
    settings: Settings,
    hook_id: int,
    *,
    former_days: int = FORMER_DAYS,
    actor: Actor = PYTHON,
) -> NewHook:
    """Replace the hook's secret and form URL; the former ones stay valid for `former_days`.

    Raises InvalidRequest, NotFound for an unknown or revoked hook, and SettingsError.
    """
    key_id, salt = signing_key_id(settings), secrets.token_bytes(_SALT_BYTES)
    if not 0 <= former_days <= MAX_FORMER_DAYS:
        raise InvalidRequest(
            f"The former secret cannot stay valid for {former_days} days. Nothing was changed. Give"
            f" 0 to {MAX_FORMER_DAYS} days."
        )
    async with recorded_change(pool, events.HOOK_RENEWED, actor) as change:
        account_id = None
        if 0 < hook_id <= MAX_ID:
            account_id = await hooks.renew_hook_secret(
                change.connection, hook_id, salt=salt, key_id=key_id, former_days=former_days
            )
        if account_id is None:
            raise NotFound(
                f"Hook {hook_id} does not exist or was revoked. Nothing was changed. `sluice hooks"
                " list` lists the hooks."
            )
        days = {"former_days": former_days}
        await change.record(account_id=account_id, hook_id=hook_id, detail=days, logged=days)
    return _new_hook(settings, hook_id, salt)


def _new_hook(settings: Settings, hook_id: int, salt: bytes) -> NewHook:
    return NewHook(
        hook_id,
        f"/v1/hooks/form/{hook_token(settings, hook_id, salt)}",
        f"/v1/hooks/{hook_id}/events",
        hook_secret(settings, hook_id, salt),
    )


async def revoke_hook(pool: asyncpg.Pool, hook_id: int, *, actor: Actor = PYTHON) -> None:
    """Revoke the hook from the next request on; raises NotFound."""
    async with recorded_change(pool, events.HOOK_REVOKED, actor) as change:
        known = 0 < hook_id <= MAX_ID
        revoked = await hooks.revoke_hook(change.connection, hook_id) if known else None
        if revoked is None:
            raise NotFound(f"There is no hook {hook_id}. `sluice hooks list` lists the hooks.")
        if revoked.now:
            await change.record(account_id=revoked.account_id, hook_id=hook_id)


def is_token_of_hook(settings: Settings, hook: Hook, token: str) -> bool:
    """Return whether the token was made for the hook."""
    former = hook.salt if hook.former_salt is None else hook.former_salt
    return is_hook_token(settings, token, hook.id, (hook.salt, former))


def hook_secrets(settings: Settings, hook: Hook) -> list[str]:
    """Return the hook's valid secrets, except those of a signing key that is no longer listed.

    A secret that nobody has fills the list up, so that every hook, known or not, takes as long.
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
