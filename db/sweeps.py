"""What one process does for the fleet: sweep, measure, report absent workers, suggest workers.

A row in `sweeps` has the time of each, by which a process takes its turn.
"""

from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.job_key import JobKey

_sql = load("sweeps")


class SweptJob(NamedTuple):
    """A job that the sweeper may enqueue."""

    key: JobKey
    action: str
    correlation_id: str


class WorkerAbsence(NamedTuple):
    """How many seconds no worker has swept or measured, and whether that was logged."""

    unattended_for_seconds: float
    is_reported: bool


class Suggestion(NamedTuple):
    """How many workers were suggested, and the most that were needed since.

    `at` is Postgres's time of the suggestion, in seconds since 1970.
    """

    workers: int
    peak: int
    at: float


async def ping(connection: asyncpg.Connection) -> None:
    """Raise the driver's error if Postgres does not answer."""
    await _sql.ping(connection)


async def try_sweep(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Return whether it is this process's turn to sweep."""
    return bool(await _sql.try_sweep(connection, every_seconds=every_seconds))


async def try_begin_queue_stats(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Return whether it is this process's turn to measure the queues."""
    return bool(await _sql.try_begin_queue_stats(connection, every_seconds=every_seconds))


async def list_stalled_plans(
    connection: asyncpg.Connection, stalled_after_seconds: float
) -> list[SweptJob]:
    """Return the jobs that wait for a plan and are to be enqueued again by this process."""
    rows = _sql.list_stalled_plans(connection, stalled_after_seconds=stalled_after_seconds)
    return [
        job
        for job in [SweptJob(JobKey(*row[:2]), *row[2:]) async for row in rows]
        if await _sql.requeue_plan(
            connection, **job.key._asdict(), stalled_after_seconds=stalled_after_seconds
        )
    ]


async def list_running_jobs(connection: asyncpg.Connection) -> list[SweptJob]:
    """Return the running jobs of all accounts."""
    rows = _sql.list_running_jobs(connection)
    return [SweptJob(JobKey(*row[:2]), *row[2:]) async for row in rows]


async def get_worker_absence(connection: asyncpg.Connection) -> WorkerAbsence:
    """Return how long no worker has swept or measured."""
    return WorkerAbsence(*await _sql.get_worker_absence(connection))


async def try_report_absence(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Return whether it is this process's turn to log that no worker is there."""
    return bool(await _sql.try_report_absence(connection, every_seconds=every_seconds))


async def try_report_return(connection: asyncpg.Connection) -> bool:
    """Return whether it is this process's turn to log that workers are back."""
    return bool(await _sql.try_report_return(connection))


async def get_suggestion(connection: asyncpg.Connection) -> tuple[Suggestion | None, float]:
    """Return the last suggestion, if there is one, and Postgres's time in seconds since 1970."""
    *suggestion, now = await _sql.get_suggestion(connection)
    return (None if suggestion[-1] is None else Suggestion(*suggestion)), now


async def store_suggestion(
    connection: asyncpg.Connection, new: Suggestion, before: Suggestion | None
) -> None:
    """Store a suggestion, unless another process has stored one since `before`."""
    await _sql.store_suggestion(
        connection,
        **new._asdict(),
        workers_before=before and before.workers,
        peak_before=before and before.peak,
    )
