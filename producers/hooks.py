"""Hooks: where senders without an API key post what recipients did.

A sender that can sign posts JSON and signs it; one that cannot, such as an automation that only
knows "send an http post to another server", posts a form to a URL that nobody can guess.
"""

import secrets
from typing import NamedTuple

import asyncpg
from pydantic import TypeAdapter, ValidationError

from db import activity, hooks
from db.hooks import Hook
from producers.recipient_acts import SourceName
from producers.submit import require_account
from producers.wrong_input import shortened
from runtime import events, logs
from runtime.settings import Settings
from runtime.signing import hook_id_of, hook_secret, hook_token, is_hook_token
from schemas.actors import PYTHON, Act, Actor
from schemas.errors import NotFound, WrongInput
from schemas.requests import MAX_ID

log = logs.get()

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
    pool: asyncpg.Pool, settings: Settings, *, account: str, source: str, actor: Actor = PYTHON
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
    async with pool.acquire() as connection, connection.transaction():
        account_id = await require_account(connection, account)
        hook_id = await hooks.insert_hook(
            connection, account_id=account_id, source=source, salt=salt
        )
        await activity.note(
            connection,
            Act.HOOK_CREATED,
            actor,
            account_id=account_id,
            hook_id=hook_id,
            detail={"source": source},
        )
    log.info(events.HOOK_CREATED, hook=hook_id, account=account_id, **actor.in_log())
    return MadeHook(
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
        await activity.note(
            connection, Act.HOOK_REVOKED, actor, account_id=revoked.account_id, hook_id=hook_id
        )
    log.info(events.HOOK_REVOKED, hook=hook_id, account=revoked.account_id, **actor.in_log())


async def hook_claimed_by(connection: asyncpg.Connection, token: str) -> Hook | None:
    """The hook that a form's token claims to be of, which `is_token_of` has to confirm."""
    hook_id = hook_id_of(token)
    return None if hook_id is None else await hooks.hook_by_id(connection, hook_id)


def is_token_of(settings: Settings, hook: Hook, token: str) -> bool:
    """Whether the token was made for the hook."""
    return is_hook_token(settings, token, hook.id, hook.salt)
