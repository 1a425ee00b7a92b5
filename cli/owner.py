"""What the owner of the tables does: migrate, and grant another role what processes need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import asyncpg

from db.deployment import limit_in_force, put_limit_in_force
from db.grants import grant, grants
from db.migrate import migrate, require_current
from db.pool import open_pool
from runtime import events, logs
from runtime.settings import Settings
from runtime.shared_setting import NAME, chosen_limit, log_difference
from schemas.errors import SettingsError

log = logs.get()


async def bring_up_to_date(settings: Settings) -> tuple[str | None, str]:
    """Migrate, and grant the role of DATABASE_URL what it needs where it is not to be the owner.

    Return the revision before and after.
    """
    assert settings.owners_database_url is not None
    revisions = await migrate(settings.owners_database_url)
    await _put_in_force(settings)
    if settings.owner_database_url and settings.database_url:
        role = unquote(urlsplit(settings.database_url).username or "")
        if not role:
            raise SettingsError(
                "OWNER_DATABASE_URL is set, and DATABASE_URL names no role. The database was"
                " migrated, and nothing was granted. Name the role in DATABASE_URL, then run"
                " `sluice migrate` again."
            )
        await grant_as_owner(settings, role)
    return revisions


async def _put_in_force(settings: Settings) -> None:
    """Have the limit of these settings be the one in force, where they state one."""
    async with _as_owner(settings) as connection:
        before = await limit_in_force(connection)
        limit = chosen_limit(settings, before)
        if limit is None:
            log_difference(settings, before)
            return
        await put_limit_in_force(connection, limit)
    log.info(
        events.SETTING_CHANGED,
        setting=NAME,
        before=None if before is None else str(before),
        after=str(limit),
    )


async def grant_as_owner(settings: Settings, role: str) -> None:
    """Grant the role what it needs; raises RoleRefused."""
    async with _as_owner(settings) as connection:
        await grant(connection, role)


async def grants_as_owner(settings: Settings, role: str) -> list[str]:
    """Return the statements that would grant it; raises RoleRefused."""
    async with _as_owner(settings) as connection:
        return await grants(connection, role)


@asynccontextmanager
async def _as_owner(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    assert settings.owners_database_url is not None
    pool = await open_pool(settings.owners_database_url, size=1, pgbouncer=settings.pgbouncer)
    try:
        async with pool.acquire() as connection:
            await require_current(connection)
            yield connection
    finally:
        pool.terminate()
