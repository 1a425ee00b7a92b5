"""Hooks: where senders without an API key post what recipients did.

A sender that can sign posts JSON and signs it; one that cannot, such as an automation that only
knows "send an http post to another server", posts a form to a URL that nobody can guess.
"""

import secrets
from typing import NamedTuple

import asyncpg
from pydantic import TypeAdapter, ValidationError

from db import hooks
from db.hooks import Hook
from producers.recipient_acts import SourceName
from producers.submit import require_account
from producers.wrong_input import shortened
from runtime.settings import Settings
from runtime.signing import hook_id_of, hook_secret, hook_token, is_hook_token
from schemas.errors import NotFound, WrongInput
from schemas.requests import MAX_ID

_SALT_BYTES = 16
_SOURCE = TypeAdapter(SourceName)


class MadeHook(NamedTuple):
    """A new hook. The secret and the token in `form_path` can be derived again, but are not shown
    again.
    """

    id: int
    form_path: str
    events_path: str
    secret: str

    def __repr__(self) -> str:
        return f"MadeHook(id={self.id})"


async def create_hook(
    pool: asyncpg.Pool, settings: Settings, *, account: str, source: str
) -> MadeHook:
    """A new hook of an account; raises WrongInput, NotFound among it, and SettingsError."""
    settings.require_signing_key()
    try:
        _SOURCE.validate_python(source)
    except ValidationError:
        raise WrongInput(
            f"{shortened(source)!r} cannot be the source of a hook. Nothing was made. Use one word"
            " of up to 100 letters, digits, dots, colons, dashes and underscores, such as keap."
        ) from None
    salt = secrets.token_bytes(_SALT_BYTES)
    async with pool.acquire() as connection:
        account_id = await require_account(connection, account)
        hook_id = await hooks.insert_hook(
            connection, account_id=account_id, source=source, salt=salt
        )
    return MadeHook(
        hook_id,
        f"/v1/hooks/form/{hook_token(settings, hook_id, salt)}",
        f"/v1/hooks/{hook_id}/events",
        hook_secret(settings, hook_id, salt),
    )


async def revoke_hook(pool: asyncpg.Pool, hook_id: int) -> None:
    """Let the hook take no more, from the next request on; raises NotFound."""
    async with pool.acquire() as connection:
        known = 0 < hook_id <= MAX_ID and await hooks.revoke_hook(connection, hook_id)
    if not known:
        raise NotFound(
            f"There is no hook {hook_id}. `sluice hooks list` lists the hooks there are."
        )


async def hook_claimed_by(connection: asyncpg.Connection, token: str) -> Hook | None:
    """The hook that a form's token claims to be of, which `is_token_of` has to confirm."""
    hook_id = hook_id_of(token)
    return None if hook_id is None else await hooks.hook_by_id(connection, hook_id)


def is_token_of(settings: Settings, hook: Hook, token: str) -> bool:
    """Whether the token was made for the hook."""
    return is_hook_token(settings, token, hook.id, hook.salt)
