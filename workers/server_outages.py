"""What a worker process logs when a server or one of its tasks fails."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any

import asyncpg
from dramatiq.errors import BrokerConnectionError

from db import sweeps
from db.errors import CONNECTION_USABLE_ERRORS, TRANSIENT_ERRORS
from runtime import events, logs
from runtime.outages import PROBE_TIMEOUT_SECONDS, database_outage, queue_outage
from workers.context import WorkerContext

log = logs.get_logger()


class Outages:
    """The outages of both servers, as this worker process sees them."""

    def __init__(self) -> None:
        self.database = database_outage()
        self.queue = queue_outage()

    async def run_guarded(
        self, context: WorkerContext, work: Awaitable[None], **subject: Any
    ) -> None:
        """Await the work, and log its errors instead of raising them.

        `subject` is the `job` that the work is for, or the periodic `task` that it is.
        """
        requested_at = time.monotonic()
        try:
            await work
            self.database.record_success(requested_at)
        except TRANSIENT_ERRORS as error:
            await self.handle_transient_error(context.pool, error, subject.get("job"))
        except Exception as error:  # noqa: BLE001 - the process continues
            log_unexpected_error(error, **subject)

    async def handle_transient_error(
        self, pool: asyncpg.Pool, error: BaseException, job_id: int | None = None
    ) -> None:
        """Log the error, or find out by a new connection whether Postgres is down.

        One broken connection is no outage, and several that break in turn are not several outages.
        `job_id` is the job that the work was for, if any.
        """
        if isinstance(error, CONNECTION_USABLE_ERRORS):
            log.warning(
                events.WORKER_INTERRUPTED,
                job=job_id,
                error=type(error).__name__,
                location=logs.error_location(error),
            )
            return
        requested_at = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS), pool.acquire() as connection:
                await sweeps.ping(connection)
        except TRANSIENT_ERRORS as probe_error:
            self.database.record_failure(probe_error, requested_at)
        else:
            self.database.record_success(requested_at)


def log_unexpected_error(error: BaseException, **subject: Any) -> None:
    """Log an error that the work for a `job`, or a periodic `task`, should have handled."""
    log.error(events.WORKER_FAILED, **subject, error=type(error).__name__, exc_info=error)


def is_outage_record(record: logging.LogRecord) -> bool:
    """Return whether a library's log line reports a failed attempt to reach Redis.

    dramatiq writes one for each attempt; `Outage` has already logged the outage.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(argument, BrokerConnectionError) for argument in arguments)
