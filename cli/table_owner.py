"""What the database role that owns the tables does: migrate, and grant what processes need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import asyncpg

from db.deployment import get_role_address_limit, set_role_address_limit
from db.grants import grant
from db.migrate import migrate, require_current
from db.pool import open_pool
from runtime import events, logs
from runtime.settings import Settings
from runtime.shared_setting import NAME, warn_if_different
from schemas.errors import SettingsError

log = logs.get_logger()


async def migrate_database(settings: Settings) -> tuple[str | None, str]:
    """Migrate, and grant what it needs to the role of DATABASE_URL if that is not the owner.

    Return the revision before and after.
    """
    assert settings.migration_database_url is not None
    revisions = await migrate(settings.migration_database_url)
    async with connect_as_owner(settings) as connection:
        await _store_shared_setting(connection, settings)
        if settings.owner_database_url and settings.database_url:
            role = unquote(urlsplit(settings.database_url).username or "")
            if not role:
                raise SettingsError(
                    "OWNER_DATABASE_URL is set, but DATABASE_URL names no role. The database was"
                    " migrated, and nothing was granted. Name the role in DATABASE_URL, then run"
                    " `sluice migrate` again."
                )
            await grant(connection, role)
    return revisions


async def _store_shared_setting(connection: asyncpg.Connection, settings: Settings) -> None:
    """Store the limit of these settings for all processes.

    A default replaces no stored value: another machine may have the setting, and this one not.
    """
    limit = settings.role_address_limit
    before = await get_role_address_limit(connection)
    is_set = "role_address_limit" in settings.model_fields_set
    if before == limit or (before is not None and not is_set):
        warn_if_different(settings, before)
        return
    await set_role_address_limit(connection, limit)
    log.info(
        events.SETTING_CHANGED,
        setting=NAME,
        before=None if before is None else str(before),
        after=str(limit),
    )


@asynccontextmanager
async def open_current_pool(
    url: str | None, settings: Settings, *, size: int
) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool for a database that has this version's schema; raises SchemaMismatch."""
    assert url is not None
    pool = await open_pool(url, size=size, pgbouncer=settings.pgbouncer, application="sluice cli")
    try:
        async with pool.acquire() as connection:
            await require_current(connection)
        yield pool
    finally:
        pool.terminate()


@asynccontextmanager
async def connect_as_owner(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection by the role that owns the tables; raises SchemaMismatch."""
    url = settings.migration_database_url
    async with open_current_pool(url, settings, size=1) as pool, pool.acquire() as connection:
        yield connection
