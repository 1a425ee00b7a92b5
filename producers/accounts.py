"""Accounts: find and create them, and derive the secrets of their completion webhooks."""

import secrets

import asyncpg

from db import accounts, webhook_deliveries
from producers.invalid_request import require_storable, shorten
from producers.recorded_changes import recorded_change
from runtime import events
from runtime.settings import Settings
from runtime.signing import signing_key_id, webhook_secret
from schemas.actors import PYTHON, Actor
from schemas.errors import InvalidRequest, NotFound

_SALT_BYTES = 16


async def require_account(connection: asyncpg.Connection, name: str) -> int:
    """Return the id of the account; raises NotFound, which lists the accounts."""
    found = await accounts.get_account_id(connection, name)
    if found is None:
        names = ", ".join(account.name for account in await accounts.list_accounts(connection))
        raise NotFound(
            f"There is no account {name!r}. Nothing was stored. There are: {names}."
            " `sluice accounts create NAME` adds one."
        )
    return found


async def find_account(connection: asyncpg.Connection, name: str | None) -> int | None:
    """Return the id of the account, or None for no name, which means all accounts.

    An empty name raises NotFound, as in `require_account`.
    """
    return None if name is None else await require_account(connection, name)


async def create_account(pool: asyncpg.Pool, name: str, *, actor: Actor = PYTHON) -> int:
    """Create an account and return its id; raises InvalidRequest for a taken or invalid name."""
    require_storable("The account's name", name)
    try:
        async with recorded_change(pool, events.ACCOUNT_CREATED, actor) as change:
            created = await accounts.create_account(change.connection, name)
            if created is None:
                raise InvalidRequest(
                    f"The account {name!r} already exists. Nothing was changed. Use another name."
                )
            await change.record(account_id=created)
    except asyncpg.CheckViolationError:
        raise InvalidRequest(
            f"{shorten(name)!r} cannot be the name of an account. Nothing was created. Use up to 63"
            " lower-case letters, digits, dots, dashes and underscores. Begin with a letter or"
            " digit."
        ) from None
    return created


async def get_webhook_secret(pool: asyncpg.Pool, settings: Settings, name: str) -> str:
    """Return the secret that signs the completion webhooks of the account.

    It stays the same when SIGNING_KEYS gets another first key. Raises NotFound, and SettingsError
    if its key is no longer listed.
    """
    async with pool.acquire() as connection, connection.transaction():
        _, secret = await _webhook_secret(connection, settings, name, is_new=False)
    return secret


async def renew_webhook_secret(
    pool: asyncpg.Pool, settings: Settings, name: str, *, actor: Actor = PYTHON
) -> str:
    """Replace the secret that signs the account's completion webhooks; raises NotFound."""
    async with recorded_change(pool, events.ACCOUNT_SECRET_RENEWED, actor) as change:
        account_id, secret = await _webhook_secret(change.connection, settings, name, is_new=True)
        await change.record(account_id=account_id)
    return secret


async def _webhook_secret(
    connection: asyncpg.Connection, settings: Settings, name: str, *, is_new: bool
) -> tuple[int, str]:
    key_id, salt = signing_key_id(settings), secrets.token_bytes(_SALT_BYTES)
    account_id = await require_account(connection, name)
    source = await webhook_deliveries.store_secret_source(
        connection, account_id, salt=salt, key_id=key_id, renewed=is_new
    )
    return account_id, webhook_secret(settings, account_id, source.salt, key_id=source.key_id)
