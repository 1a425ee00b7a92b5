"""Adding an account, and its secret for completion notices."""

import secrets

import asyncpg

from db import jobs, notices
from producers.submit import require_account
from producers.wrong_input import refuse_unstorable, shortened
from runtime.settings import Settings
from runtime.signing import notice_secret, signing_key_id
from schemas.errors import WrongInput

_SALT_BYTES = 16


async def create_account(pool: asyncpg.Pool, name: str) -> int:
    """The id of a new account called `name`; raises WrongInput when it is taken or not plain."""
    refuse_unstorable("The account's name", name)
    try:
        async with pool.acquire() as connection:
            created = await jobs.create_account(connection, name)
    except asyncpg.CheckViolationError:
        raise WrongInput(
            f"{shortened(name)!r} cannot be the name of an account. Use up to 63 lower-case"
            " letters, digits, dots, dashes and underscores, with a letter or digit first."
        ) from None
    if created is None:
        raise WrongInput(f"There is an account {name!r} already. Nothing was changed.")
    return created


async def shown_secret(pool: asyncpg.Pool, settings: Settings, name: str) -> str:
    """Return the secret by which completion notices of the account are signed.

    From the first time on it stays as it is, whichever of SIGNING_KEYS is the first later. Raises
    NotFound, and SettingsError where its key is not listed any more.
    """
    return await _secret(pool, settings, name, renewed=False)


async def renew_secret(pool: asyncpg.Pool, settings: Settings, name: str) -> str:
    """Give the account another secret, by which notices are signed from now on; raises NotFound."""
    return await _secret(pool, settings, name, renewed=True)


async def _secret(pool: asyncpg.Pool, settings: Settings, name: str, *, renewed: bool) -> str:
    key_id, salt = signing_key_id(settings), secrets.token_bytes(_SALT_BYTES)
    async with pool.acquire() as connection:
        account_id = await require_account(connection, name)
        source = await notices.keep_source_of_secret(
            connection, account_id, salt=salt, key_id=key_id, renewed=renewed
        )
    return notice_secret(settings, account_id, source.salt, key_id=source.key_id)
