"""Checks whether Postgres and Redis answer, so that the log tells when an outage began and ended.

Requests would only notice the servers that they need, and only when they come.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import redis

from db.deployment import get_role_address_limit
from db.errors import CONNECTION_ERRORS, TRANSIENT_ERRORS
from db.pool import connect_options
from db.sweeps import ping
from runtime import events, logs
from runtime.outages import PROBE_TIMEOUT_SECONDS, Outage, database_outage
from runtime.redis_client import redis_client
from runtime.settings import Settings
from runtime.shared_setting import warn_if_different
from workers.enqueue import get_queue_outage

log = logs.get_logger()

CHECK_SECONDS = 5.0
"""How often a server that answers is checked, by a new connection: the pool may be busy."""

OUTAGE_CHECK_SECONDS = 1.0
"""How often a server that does not answer is checked."""

_OUTAGE_ERRORS: tuple[type[BaseException], ...] = (
    *TRANSIENT_ERRORS,
    *CONNECTION_ERRORS,
    redis.RedisError,
)


class ServerMonitor:
    """Checks both servers periodically, and logs `database.*` and `queue.*` events."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = database_outage()
        self._queue = get_queue_outage(settings)
        self._check_requested = asyncio.Event()
        self._has_compared = False

    async def run(self) -> None:
        """Check both servers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                self._watch(self._database, self._check_database, self._check_requested)
            )
            tasks.create_task(self._watch(self._queue, self._check_queue, asyncio.Event()))

    def check_database_soon(self) -> None:
        """Check Postgres now, because it did not answer a request."""
        self._check_requested.set()

    async def _watch(
        self, outage: Outage, check: Callable[[], Awaitable[None]], check_requested: asyncio.Event
    ) -> None:
        while True:
            check_requested.clear()
            requested_at = time.monotonic()
            try:
                # Not `wait_for`, which in Python 3.11 may swallow the cancellation of its task.
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    await check()
            except _OUTAGE_ERRORS as error:
                outage.record_failure(error, requested_at)
            except Exception as error:
                log.error(
                    events.WEB_TASK_FAILED,
                    task=check.__name__.removeprefix("_"),
                    error=type(error).__name__,
                    exc_info=error,
                )
            else:
                await asyncio.to_thread(outage.record_success, requested_at, on_new_connection=True)
            seconds = OUTAGE_CHECK_SECONDS if outage.is_down else CHECK_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):
                    await check_requested.wait()
            if outage.is_down:
                # Requests that fail meanwhile add nothing.
                await asyncio.sleep(OUTAGE_CHECK_SECONDS / 2)

    async def _check_database(self) -> None:
        assert self._settings.database_url is not None
        options = connect_options(self._settings.database_url, pgbouncer=self._settings.pgbouncer)
        connection = await asyncpg.connect(**options)
        try:
            await ping(connection)
            if not self._has_compared:
                warn_if_different(self._settings, await get_role_address_limit(connection))
                self._has_compared = True
        finally:
            connection.terminate()

    async def _check_queue(self) -> None:
        assert self._settings.redis_url is not None
        await asyncio.to_thread(_ping, self._settings.redis_url)


def _ping(url: str) -> None:
    with redis_client(url) as client:
        client.ping()
