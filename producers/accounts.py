"""Adding an account, and its secret for completion notices."""

import secrets

import asyncpg

from db import activity, jobs, webhook_deliveries
from producers.invalid_request import refuse_unstorable, shortened
from producers.submit import require_account
from runtime import events, logs
from runtime.settings import Settings
from runtime.signing import notice_secret, signing_key_id
from schemas.actors import PYTHON, Act, Actor
from schemas.errors import WrongInput

log = logs.get()

_SALT_BYTES = 16


async def create_account(pool: asyncpg.Pool, name: str, *, actor: Actor = PYTHON) -> int:
    """The id of a new account called `name`; raises WrongInput when it is taken or not plain."""
    refuse_unstorable("The account's name", name)
    try:
        async with pool.acquire() as connection, connection.transaction():
            created = await jobs.create_account(connection, name)
            if created is None:
                raise WrongInput(f"There is an account {name!r} already. Nothing was changed.")
            await activity.note(connection, Act.ACCOUNT_CREATED, actor, account_id=created)
    except asyncpg.CheckViolationError:
        raise WrongInput(
            f"{shortened(name)!r} cannot be the name of an account. Use up to 63 lower-case"
            " letters, digits, dots, dashes and underscores, with a letter or digit first."
        ) from None
    log.info(events.ACCOUNT_CREATED, account=created, **actor.in_log())
    return created


async def shown_secret(pool: asyncpg.Pool, settings: Settings, name: str) -> str:
    """Return the secret by which completion notices of the account are signed.

    From the first time on it stays as it is, whichever of SIGNING_KEYS is the first later. Raises
    NotFound, and SettingsError where its key is not listed any more.
    """
    _, secret = await _secret(pool, settings, name, renewed_by=None)
    return secret


async def renew_secret(
    pool: asyncpg.Pool, settings: Settings, name: str, *, actor: Actor = PYTHON
) -> str:
    """Give the account another secret, by which notices are signed from now on; raises NotFound."""
    account_id, secret = await _secret(pool, settings, name, renewed_by=actor)
    log.info(events.ACCOUNT_SECRET_RENEWED, account=account_id, **actor.in_log())
    return secret


async def _secret(
    pool: asyncpg.Pool, settings: Settings, name: str, *, renewed_by: Actor | None
) -> tuple[int, str]:
    key_id, salt = signing_key_id(settings), secrets.token_bytes(_SALT_BYTES)
    async with pool.acquire() as connection, connection.transaction():
        account_id = await require_account(connection, name)
        source = await webhook_deliveries.keep_source_of_secret(
            connection, account_id, salt=salt, key_id=key_id, renewed=renewed_by is not None
        )
        if renewed_by is not None:
            act = Act.ACCOUNT_SECRET_RENEWED
            await activity.note(connection, act, renewed_by, account_id=account_id)
    return account_id, notice_secret(settings, account_id, source.salt, key_id=source.key_id)
