"""`python -m workers`: check the surroundings, then hand over to dramatiq's own command."""

import asyncio
import os
import sys

import redis

from db.migrate import require_current
from db.pool import open_pool
from runtime import logs
from runtime.redis_client import redis_client
from runtime.settings import Settings
from schemas.errors import QueueUnreachable, SluiceError

IDLE_POLL_MS = 50
"""How long an idle consumer may wait between two looks at Redis; dramatiq's 1,000 made half of
all messages wait for 188 ms or more, 50 costs some fifty commands a second and process."""

SHUTDOWN_MS = 4_000
"""How long dramatiq waits for the threads, twice; a chunk takes a tenth of that."""


def main() -> int:
    """Run the worker processes until SIGTERM; gives the exit status."""
    try:
        settings = Settings()
        logs.configure(settings)
        asyncio.run(_check(settings))
    except SluiceError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for whoever starts it
        return error.exit_code
    # dramatiq reads these when it is imported. A few messages more than threads, or one process
    # hoards what others could do.
    os.environ["dramatiq_queue_prefetch"] = str(settings.worker_threads + 2)  # noqa: SIM112
    os.environ["dramatiq_worker_timeout"] = str(IDLE_POLL_MS)  # noqa: SIM112
    from dramatiq import cli  # noqa: PLC0415 - only after the above

    arguments = cli.make_argument_parser().parse_args(  # type: ignore[no-untyped-call]
        [
            "workers.app",
            "--processes",
            str(settings.worker_processes),
            "--threads",
            str(settings.worker_threads),
            "--worker-shutdown-timeout",
            str(SHUTDOWN_MS),
            "--skip-logging",
        ]
    )
    status: int = cli.main(arguments)  # type: ignore[no-untyped-call]
    return status


async def _check(settings: Settings) -> None:
    """Fail now, with a sentence, rather than boot processes that fail every message."""
    settings.require_urls()
    assert settings.database_url is not None
    assert settings.redis_url is not None
    pool = await open_pool(settings.database_url, size=1, pgbouncer=settings.pgbouncer)
    try:
        async with pool.acquire() as connection:
            await require_current(connection)
    finally:
        await pool.close()
    try:
        redis_client(settings.redis_url, waits_for_messages=False).ping()
    except (redis.RedisError, OSError) as error:
        raise QueueUnreachable(
            f"Redis cannot be used: {type(error).__name__}. Nothing was started."
            " Check REDIS_URL and that the server runs, then try again."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
