"""`python -m workers`: check both servers, then run dramatiq's worker processes."""

import asyncio
import os
import random
import sys
import time

import asyncpg
import redis

from db.deployment import get_role_address_limit
from db.errors import CONNECTION_ERRORS
from db.migrate import require_current
from db.pool import describe_unreachable, open_pool
from runtime import logs
from runtime.process import log_startup_failure, process_name
from runtime.program import expand_program_name
from runtime.redis_client import redis_client
from runtime.settings import Settings
from runtime.shared_setting import warn_if_different
from schemas.errors import DatabaseUnreachable, QueueUnreachable, SluiceError
from workers.shutdown import IDLE_THREAD_MS, WORKER_SHUTDOWN_MS, end_on_hangup

CONSUMER_RESTART_MS = 1_000
"""How long a consumer waits after a Redis error before it tries again. With dramatiq's 3,000, work
would resume that much later after an outage."""

_PERMANENT_ERRORS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    redis.AuthenticationError,
)
"""Errors that show a wrong URL. Waiting does not help."""


def main() -> int:
    """Run the worker processes until SIGTERM, and return the exit status."""
    try:
        settings = Settings()
        logs.configure(settings, worker=process_name(settings))
        _configure_dramatiq(settings)
        asyncio.run(_check_servers(settings))
    except SluiceError as error:
        log_startup_failure(error, "worker", status=error.exit_code)
        sys.stderr.write(f"{expand_program_name(str(error))}\n")
        return error.exit_code
    from dramatiq import cli  # noqa: PLC0415 - only after `_configure_dramatiq`

    arguments = cli.make_argument_parser().parse_args(  # type: ignore[no-untyped-call]
        [
            "workers.app",
            f"--processes={settings.worker_processes}",
            f"--threads={settings.worker_threads}",
            f"--worker-shutdown-timeout={WORKER_SHUTDOWN_MS}",
            "--skip-logging",
        ]
    )
    end_on_hangup()
    status: int = cli.main(arguments)  # type: ignore[no-untyped-call]
    return status


def _configure_dramatiq(settings: Settings) -> None:
    """Set the environment that dramatiq reads when it is imported, which must come later."""
    assert "dramatiq" not in sys.modules
    # A message is a slice of work, and fetching one takes a thousandth of that. Messages that are
    # fetched earlier wait here while other processes are idle.
    os.environ["dramatiq_queue_prefetch"] = str(settings.worker_threads)  # noqa: SIM112
    os.environ["dramatiq_worker_timeout"] = str(IDLE_THREAD_MS)  # noqa: SIM112
    os.environ["dramatiq_restart_delay"] = str(CONSUMER_RESTART_MS)  # noqa: SIM112


async def _check_servers(settings: Settings) -> None:
    """Check both servers before any process starts, so that an error is one clear text.

    Wait up to `STARTUP_TIMEOUT_SECONDS` for a server that is down. Raises DatabaseUnreachable,
    DatabaseUnsuitable, SchemaMismatch, QueueUnreachable.
    """
    from workers.server_outages import Outages  # noqa: PLC0415 - it imports dramatiq

    settings.require_urls()
    outages = Outages()
    ends = time.monotonic() + settings.startup_timeout_seconds
    for check, outage in ((_check_database, outages.database), (_check_queue, outages.queue)):
        while True:
            requested_at = time.monotonic()
            try:
                await check(settings)
                break
            except (DatabaseUnreachable, QueueUnreachable) as error:
                cause = error.__cause__ or error
                if isinstance(cause, _PERMANENT_ERRORS) or time.monotonic() > ends:
                    raise
                outage.record_failure(cause, requested_at)
                await asyncio.sleep(random.uniform(0.5, 1.5))
        outage.record_success(requested_at, on_new_connection=True)


async def _check_database(settings: Settings) -> None:
    assert settings.database_url is not None
    pool = await open_pool(settings.database_url, size=1, pgbouncer=settings.pgbouncer)
    try:
        async with pool.acquire() as connection:
            await require_current(connection)
            warn_if_different(settings, await get_role_address_limit(connection))
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(describe_unreachable(settings.database_url, error)) from error
    finally:
        pool.terminate()


async def _check_queue(settings: Settings) -> None:
    assert settings.redis_url is not None
    try:
        with redis_client(settings.redis_url) as client:
            await asyncio.to_thread(client.ping)
    except (redis.RedisError, OSError) as error:
        raise QueueUnreachable(
            f"Redis cannot be used: {type(error).__name__}. Nothing was started."
            " Check REDIS_URL and that the server runs, then try again."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
