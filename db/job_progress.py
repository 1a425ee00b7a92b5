"""How far a job is: its start, its counts and its end."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.job_key import JobKey
from schemas.outcomes import JobState

_sql = load("job_progress")


RECENT_SECONDS = 10.0
"""The pace of a job is what it did in so many seconds: since its start it may have been paused."""


class JobToWork(NamedTuple):
    """What a worker needs to know of a job; only `state` and the times ever change."""

    id: int
    account_id: int
    action: str
    state: str
    fields: list[int]
    params: dict[str, Any]
    correlation_id: str
    planned_at: datetime | None
    started_at: datetime | None

    @property
    def key(self) -> JobKey:
        """The job's key."""
        return JobKey(self.account_id, self.id)

    @property
    def log_fields(self) -> dict[str, Any]:
        """The fields that every log line about the job has."""
        return {"job": self.id, "account": self.account_id, "action": self.action}


class JobTotals(NamedTuple):
    """What became of a completed job's pairs, and its age in seconds."""

    selected: int
    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    seconds: float


class JobProgress(NamedTuple):
    """What a progress bar shows: the state, and how many of the planned pairs are accounted for."""

    state: JobState
    planned_at: datetime | None
    is_held: bool
    done: int
    planned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """Exact counts of a job at this moment, summed over its chunks.

    `done` and `planned` count (contact, field) pairs; `planned` is 0 until the selection is
    frozen. `reasons` counts result rows by `outcome:reason`. `is_held` tells that a worker has one
    of the job's places in the queue in hand. `last_error` is that of a chunk which failed and will
    be tried again. `done_recently` are the pairs of the `RECENT_SECONDS` before the moment `at`.
    """

    state: JobState
    planned_at: datetime | None
    selected: int | None
    at: datetime
    is_held: bool
    chunks_done: int
    chunks_pending: int
    chunks_split: int
    attempts: int
    last_error: str | None
    done: int
    planned: int
    done_recently: int
    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    reasons: dict[str, int]


async def get_job_to_work(connection: asyncpg.Connection, job: JobKey) -> JobToWork | None:
    """Return what a worker needs to know of the job; None if there is no such job."""
    row = await _sql.get_job_to_work(connection, **job._asdict())
    return JobToWork(*row) if row else None


async def mark_started(connection: asyncpg.Connection, job: JobKey) -> bool:
    """Whether this is the first that works on the job."""
    return bool(await _sql.mark_started(connection, **job._asdict()))


async def refresh_counts(connection: asyncpg.Connection, job: JobKey) -> None:
    """Bring the counts of the job's row up to its chunks'."""
    await _sql.refresh_counts(connection, **job._asdict())


async def has_pending_chunks(connection: asyncpg.Connection, job: JobKey) -> bool:
    """Whether the job cannot be completed yet, or not at all."""
    return bool(await _sql.has_pending_chunks(connection, **job._asdict()))


async def complete_job(connection: asyncpg.Connection, job: JobKey) -> JobTotals | None:
    """End the job if nothing is left to do.

    Raises asyncpg.CheckViolationError when its counts do not add up.
    """
    row = await _sql.complete_job(connection, **job._asdict())
    return JobTotals(*row) if row else None


async def fail_job(connection: asyncpg.Connection, job: JobKey, error: str) -> bool:
    """End the job as failed; whether it had not ended before."""
    return await _sql.fail_job(connection, **job._asdict(), error=error) is not None


async def has_only_rejections(connection: asyncpg.Connection, job: JobKey, *, refused: int) -> bool:
    """Whether `refused` contacts were refused at last and none was ever done."""
    return bool(await _sql.has_only_rejections(connection, **job._asdict(), refused=refused))


async def get_state(connection: asyncpg.Connection, job: JobKey) -> JobState | None:
    """Where the job stands; None when there is none. The cheapest question about a job."""
    state: str | None = await _sql.get_state(connection, **job._asdict())
    return JobState(state) if state else None


async def get_counts(connection: asyncpg.Connection, job: JobKey) -> JobCounts | None:
    """Return the exact current counts of the job, or None if there is no such job."""
    row = await _sql.read_job_counts(connection, **job._asdict(), recent_seconds=RECENT_SECONDS)
    if row is None:
        return None
    values = dict(row)
    values["state"] = JobState(values["state"])
    return JobCounts(**values)


async def get_progress(connection: asyncpg.Connection, job: JobKey) -> JobProgress | None:
    """How far the job is, cheap enough to ask several times a second."""
    row = await _sql.read_job_progress(connection, **job._asdict())
    return JobProgress(JobState(row["state"]), *row[1:]) if row else None
