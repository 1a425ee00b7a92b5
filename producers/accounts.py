"""Adding an account, and its secret for completion webhooks."""

import secrets

import asyncpg

from db import accounts, activity, webhook_deliveries
from producers.invalid_request import require_storable, shorten
from producers.submit import require_account
from runtime import events, logs
from runtime.settings import Settings
from runtime.signing import signing_key_id, webhook_secret
from schemas.actors import PYTHON, ActivityEvent, Actor
from schemas.errors import InvalidRequest

log = logs.get_logger()

_SALT_BYTES = 16


async def create_account(pool: asyncpg.Pool, name: str, *, actor: Actor = PYTHON) -> int:
    """Create an account and return its id; raises InvalidRequest for a taken or invalid name."""
    require_storable("The account's name", name)
    try:
        async with pool.acquire() as connection, connection.transaction():
            created = await accounts.create_account(connection, name)
            if created is None:
                raise InvalidRequest(f"There is an account {name!r} already. Nothing was changed.")
            await activity.record(
                connection, ActivityEvent.ACCOUNT_CREATED, actor, account_id=created
            )
    except asyncpg.CheckViolationError:
        raise InvalidRequest(
            f"{shorten(name)!r} cannot be the name of an account. Use up to 63 lower-case"
            " letters, digits, dots, dashes and underscores, with a letter or digit first."
        ) from None
    log.info(events.ACCOUNT_CREATED, account=created, **actor.log_keys())
    return created


async def get_webhook_secret(pool: asyncpg.Pool, settings: Settings, name: str) -> str:
    """Return the secret that signs the account's completion webhooks.

    It does not change after the first call, even if another one of SIGNING_KEYS is first later.
    Raises NotFound, and SettingsError if its key is no longer listed.
    """
    _, secret = await _webhook_secret(pool, settings, name, renewed_by=None)
    return secret


async def renew_webhook_secret(
    pool: asyncpg.Pool, settings: Settings, name: str, *, actor: Actor = PYTHON
) -> str:
    """Give the account another secret, which signs its webhooks from now on; raises NotFound."""
    account_id, secret = await _webhook_secret(pool, settings, name, renewed_by=actor)
    log.info(events.ACCOUNT_SECRET_RENEWED, account=account_id, **actor.log_keys())
    return secret


async def _webhook_secret(
    pool: asyncpg.Pool, settings: Settings, name: str, *, renewed_by: Actor | None
) -> tuple[int, str]:
    key_id, salt = signing_key_id(settings), secrets.token_bytes(_SALT_BYTES)
    async with pool.acquire() as connection, connection.transaction():
        account_id = await require_account(connection, name)
        source = await webhook_deliveries.store_secret_source(
            connection, account_id, salt=salt, key_id=key_id, renewed=renewed_by is not None
        )
        if renewed_by is not None:
            act = ActivityEvent.ACCOUNT_SECRET_RENEWED
            await activity.record(connection, act, renewed_by, account_id=account_id)
    return account_id, webhook_secret(settings, account_id, source.salt, key_id=source.key_id)
