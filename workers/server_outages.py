"""What a worker process logs of its servers, and of its own tasks, when they fail."""

import asyncio
import logging
import time

import asyncpg
from dramatiq.errors import BrokerConnectionError

from db import progress
from db.errors import CONTENTION_ERRORS, TRANSIENT_ERRORS
from runtime import events, logs
from runtime.outages import OUTAGE_GRACE_SECONDS, PROBE_TIMEOUT_SECONDS, Outage, queue_outage

log = logs.get_logger()


class Outages:
    """What this worker process knows about its two servers."""

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
        """Something failed through no fault of its own: the connection broke, or something was in
        the way. `job_id` is the job that it was for, where there is one.

        Whether Postgres itself is away shows a connection that is tried now: one that was ended is
        no outage, and several that end one after the other are not several.
        """
        if isinstance(error, CONTENTION_ERRORS):
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
                await progress.ping(connection)
        except TRANSIENT_ERRORS as refused:
            self.database.record_failure(refused, requested_at)
        else:
            self.database.record_success(requested_at)

    def log_task_error(self, task: str, error: BaseException) -> None:
        """A periodic task raised what it never should."""
        log.error(
            events.WORKER_FAILED,
            worker=self._worker,
            task=task,
            error=type(error).__name__,
            exc_info=error,
        )


def is_outage_record(record: logging.LogRecord) -> bool:
    """Whether a library's line tells of an attempt to reach Redis that failed: dramatiq writes one
    for each, and `Outage` has told of all of them.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(argument, BrokerConnectionError) for argument in arguments)
