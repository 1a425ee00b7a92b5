"""What one process does for the fleet: whose turn it is, and what nobody works on."""

from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.job_key import JobKey

_sql = load("sweeps")


class RunningJob(NamedTuple):
    """A job that should be making progress."""

    id: int
    account_id: int
    action: str
    correlation_id: str

    @property
    def key(self) -> JobKey:
        """The job's key."""
        return JobKey(self.account_id, self.id)


class StalledPlan(NamedTuple):
    """A job that waits for its plan, of which nothing was heard for a while."""

    key: JobKey
    action: str


class WorkerAbsence(NamedTuple):
    """For how long no worker has come, and whether that was said."""

    unattended_for_seconds: float
    is_told: bool


class Suggestion(NamedTuple):
    """How many workers are suggested since `at`, by Postgres's clock in seconds since 1970, and
    the most that were needed after that.
    """

    workers: int
    peak: int
    at: float


async def ping(connection: asyncpg.Connection) -> None:
    """Raise what the driver raises unless Postgres answers."""
    await _sql.ping(connection)


async def try_sweep(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Whether it is this process's turn to sweep."""
    return bool(await _sql.try_sweep(connection, every_seconds=every_seconds))


async def try_begin_queue_stats(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Whether it is this process's turn to measure."""
    return bool(await _sql.try_begin_queue_stats(connection, every_seconds=every_seconds))


async def list_stalled_plans(
    connection: asyncpg.Connection, stalled_after_seconds: float
) -> list[StalledPlan]:
    """Return the jobs that wait for a plan and are to be enqueued again."""
    rows = _sql.list_stalled_plans(connection, stalled_after_seconds=stalled_after_seconds)
    found = [StalledPlan(JobKey(*row[:2]), row[2]) async for row in rows]
    return [
        job
        for job in found
        if await _sql.requeue_plan(
            connection,
            **job.key._asdict(),
            stalled_after_seconds=stalled_after_seconds,
        )
    ]


async def list_running_jobs(connection: asyncpg.Connection) -> list[RunningJob]:
    """List the running jobs of all accounts, for the sweeper."""
    return [RunningJob(*row) async for row in _sql.list_running_jobs(connection)]


async def get_worker_absence(connection: asyncpg.Connection) -> WorkerAbsence:
    """Return for how long no worker has come."""
    return WorkerAbsence(*await _sql.get_worker_absence(connection))


async def try_report_absence(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Whether it is this process's turn to say that no worker comes."""
    return bool(await _sql.try_report_absence(connection, every_seconds=every_seconds))


async def try_report_return(connection: asyncpg.Connection) -> bool:
    """Whether it is this process's turn to say that workers come again."""
    return bool(await _sql.try_report_return(connection))


async def get_suggestion(connection: asyncpg.Connection) -> tuple[Suggestion | None, float]:
    """Return the last suggestion, if there was one, and Postgres's time."""
    workers, peak, at, now = await _sql.get_suggestion(connection)
    return (None if at is None else Suggestion(workers, peak, at)), now


async def store_suggestion(
    connection: asyncpg.Connection, new: Suggestion, before: Suggestion | None
) -> None:
    """Keep a suggestion, unless another process has kept one after `before`."""
    await _sql.store_suggestion(
        connection,
        workers=new.workers,
        peak=new.peak,
        at=new.at,
        workers_before=before and before.workers,
        peak_before=before and before.peak,
    )
