"""What a worker process logs when a server or one of its tasks fails."""

import asyncio
import logging
import time

import asyncpg
from dramatiq.errors import BrokerConnectionError

from db import sweeps
from db.errors import CONNECTION_USABLE_ERRORS, TRANSIENT_ERRORS
from runtime import events, logs
from runtime.outages import OUTAGE_GRACE_SECONDS, PROBE_TIMEOUT_SECONDS, Outage, queue_outage

log = logs.get_logger()


class Outages:
    """The outages of both servers, as this worker process sees them."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self.database = Outage(
            events.DATABASE_UNREACHABLE,
            events.DATABASE_RECOVERED,
            grace_seconds=OUTAGE_GRACE_SECONDS,
            worker=worker,
        )
        self.queue = queue_outage(worker=worker)

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
                worker=self._worker,
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

    def log_task_error(self, task: str, error: BaseException) -> None:
        """Log that a periodic task raised an error that it should have handled."""
        log.error(
            events.WORKER_FAILED,
            worker=self._worker,
            task=task,
            error=type(error).__name__,
            exc_info=error,
        )


def is_outage_record(record: logging.LogRecord) -> bool:
    """Return whether a library's log line reports a failed attempt to reach Redis.

    dramatiq writes one for each attempt; `Outage` has already logged the outage.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(argument, BrokerConnectionError) for argument in arguments)
