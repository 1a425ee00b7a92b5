"""What a command works with: settings, servers that answer, and a database of this version."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import asyncpg
import redis
from pydantic import ValidationError

from db.migrate import migrate, require_current
from db.pool import open_pool
from runtime.embedded import embedded_servers
from runtime.redis_client import redis_client
from runtime.settings import Settings
from schemas.errors import QueueUnreachable, SettingsError

T = TypeVar("T")

_CONNECTIONS = 2


class Surroundings(NamedTuple):
    """A command's pool and settings; with embedded servers the URLs in them are those."""

    pool: asyncpg.Pool
    settings: Settings


def run(work: Callable[[Surroundings], Coroutine[Any, Any, T]], *, rings: bool = False) -> T:
    """The answer of `work`, with servers that answer and a database of this version.

    `rings` says that the command will ring for workers, so that a wrong REDIS_URL is told before
    anything is stored. Raises DatabaseUnreachable, QueueUnreachable, SchemaMismatch.
    """
    with settings_with_servers() as (settings, embedded):
        if rings:
            require_queue(settings)
        return asyncio.run(_run(work, settings, embedded=embedded))


@contextmanager
def settings_with_servers() -> Iterator[tuple[Settings, bool]]:
    """The settings, and whether embedded servers run for them: where no URL is set."""
    settings = _settings()
    if settings.database_url or settings.redis_url or settings.dyno:
        settings.require_urls()
        yield settings, False
        return
    with embedded_servers() as servers:
        yield settings.model_copy(update=servers._asdict()), True


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        wrong = "".join(
            f"\n  {'.'.join(map(str, mistake['loc'])).upper()}: {mistake['msg']}"
            for mistake in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(
            f"The environment has wrong settings; nothing was done:{wrong}"
        ) from None


def require_queue(settings: Settings) -> None:
    """Raise QueueUnreachable unless Redis answers."""
    assert settings.redis_url is not None
    client = redis_client(settings.redis_url)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        raise QueueUnreachable(
            f"Redis cannot be used: {error}. Nothing was done."
            " Check REDIS_URL and that the server runs, then try again."
        ) from error
    finally:
        client.close()


async def _run(
    work: Callable[[Surroundings], Coroutine[Any, Any, T]], settings: Settings, *, embedded: bool
) -> T:
    url = settings.database_url
    assert url is not None
    if embedded:
        await migrate(url)
    pool = await open_pool(
        url, size=_CONNECTIONS, pgbouncer=settings.pgbouncer, application="sluice cli"
    )
    try:
        if not embedded:
            async with pool.acquire() as connection:
                await require_current(connection)
        return await work(Surroundings(pool, settings))
    finally:
        pool.terminate()
