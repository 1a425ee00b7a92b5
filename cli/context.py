"""What a command works with: settings, servers and a database of this version."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import asyncpg

from cli.table_owner import migrate_database, open_current_pool
from db.deployment import get_role_address_limit
from runtime import logs
from runtime.devservers.extra import settings_with_servers
from runtime.settings import Settings
from runtime.shared_setting import warn_if_different
from schemas.errors import QueueUnreachable, error_text

T = TypeVar("T")

_POOL_SIZE = 2


class CommandContext(NamedTuple):
    """A command's pool and settings, which have the URLs of embedded servers if those are used."""

    pool: asyncpg.Pool
    settings: Settings


def run(work: Callable[[CommandContext], Coroutine[Any, Any, T]], *, enqueues: bool = False) -> T:
    """Return what `work` returns, once the servers answer and the database has this version.

    A command that `enqueues` checks Redis first, before anything is stored. Raises
    DatabaseUnreachable, DatabaseUnsuitable, QueueUnreachable, SchemaMismatch.
    """
    with command_settings() as settings:
        if enqueues:
            require_redis(settings)
        return asyncio.run(run_async(work, settings))


@contextmanager
def command_settings(*, migrated: bool = False, is_release: bool = False) -> Iterator[Settings]:
    """Yield settings with the URLs of given or embedded servers.

    Embedded servers are migrated, and with `migrated` given ones too. `is_release` is that of
    `configure_logs`.
    """
    given = Settings()
    configure_logs(given, is_release=is_release)
    with settings_with_servers(given) as settings:
        if migrated or given.uses_embedded_servers:
            asyncio.run(migrate_database(settings))
        yield settings


def configure_logs(settings: Settings, *, is_release: bool = False) -> None:
    """Log to standard error, since standard output is for answers.

    Without LOG_FORMAT only warnings are logged, because the answer says the rest. A command with
    `is_release` also logs events, unless it runs at a terminal.
    """
    wants_lines = settings.log_format or (is_release and not os.isatty(logs.STANDARD_ERROR))
    level = {} if wants_lines else {"log_level": "warning"}
    logs.configure(settings.model_copy(update=level), descriptor=logs.STANDARD_ERROR)


def require_redis(settings: Settings) -> None:
    """Raise QueueUnreachable unless Redis answers."""
    # Few commands need Redis. Its client takes a tenth of the time in which a command starts.
    import redis  # noqa: PLC0415

    from runtime.redis_client import redis_client  # noqa: PLC0415

    assert settings.redis_url is not None
    try:
        with redis_client(settings.redis_url) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        raise QueueUnreachable(
            f"Redis cannot be used: {error_text(error)}. Nothing was done."
            " Check REDIS_URL and that the server runs, then try again."
        ) from error


async def run_async(
    work: Callable[[CommandContext], Coroutine[Any, Any, T]], settings: Settings
) -> T:
    """Return what `work` returns, on the servers of the settings; raises as `run` does."""
    async with open_current_pool(settings.database_url, settings, size=_POOL_SIZE) as pool:
        async with pool.acquire() as connection:
            warn_if_different(settings, await get_role_address_limit(connection))
        return await work(CommandContext(pool, settings))
