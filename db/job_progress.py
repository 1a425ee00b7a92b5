"""The progress of a job: its start, its counts and its end."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.job_key import JobKey
from schemas.outcomes import JobState

_sql = load("job_progress")

RECENT_SECONDS = 10.0
"""The recent time that gives a job's pace. The time since its start may include pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobToWork:
    """What a worker reads of a job. Only `state` and the times ever change."""

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
    """The counts of a completed job's pairs, and the seconds since its submission."""

    selected: int
    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    seconds: float


class JobProgress(NamedTuple):
    """What a progress bar shows: the state, and how many of the planned pairs are done."""

    state: JobState
    planned_at: datetime | None
    is_held: bool
    done: int
    planned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """Exact counts of a job at the moment `at`, summed over its chunks.

    `done` and `planned` count pairs, `done_recently` those of the last `RECENT_SECONDS`; `planned`
    is 0 until the selection is frozen. `reasons` counts results by `outcome:reason`. `is_held`
    tells whether a worker holds a lane of the job. `last_error` is of a chunk that will be retried.
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
    """Return the job for a worker, or None if there is no such job."""
    row = await _sql.get_job_to_work(connection, **job._asdict())
    return JobToWork(**row) if row else None


async def mark_started(connection: asyncpg.Connection, job: JobKey) -> bool:
    """Record that work on the job has started; return False if it had started before."""
    return bool(await _sql.mark_started(connection, **job._asdict()))


async def refresh_counts(connection: asyncpg.Connection, job: JobKey) -> None:
    """Update the counts in the job's row from its chunks."""
    await _sql.refresh_counts(connection, **job._asdict())


async def has_pending_chunks(connection: asyncpg.Connection, job: JobKey) -> bool:
    """Return whether a chunk is pending, or the job does not run."""
    return bool(await _sql.has_pending_chunks(connection, **job._asdict()))


async def complete_job(connection: asyncpg.Connection, job: JobKey) -> JobTotals | None:
    """Complete the job if no chunk is pending; otherwise return None.

    Raises asyncpg.CheckViolationError if its counts do not add up.
    """
    row = await _sql.complete_job(connection, **job._asdict())
    return JobTotals(*row) if row else None


async def fail_job(connection: asyncpg.Connection, job: JobKey, error: str) -> bool:
    """End the job as failed; return False if it had ended before."""
    states = {"from_states": [JobState.PLANNING, JobState.RUNNING], "to_state": JobState.FAILED}
    return await _sql.end_job(connection, **job._asdict(), **states, error=error) is not None


async def cancel_job(
    connection: asyncpg.Connection, job: JobKey, *, from_states: Iterable[JobState]
) -> JobState | None:
    """Cancel a job that is in one of `from_states`, with the exact counts of what was done.

    Return its new state, or None if it is in another one or does not exist.
    """
    states = {"from_states": list(from_states), "to_state": JobState.CANCELLED}
    state: str | None = await _sql.end_job(connection, **job._asdict(), **states, error=None)
    return JobState(state) if state else None


async def has_only_rejections(connection: asyncpg.Connection, job: JobKey, *, limit: int) -> bool:
    """Return whether `limit` chunks of one item were rejected with an error, and none was done."""
    return bool(await _sql.has_only_rejections(connection, **job._asdict(), limit=limit))


async def get_state(connection: asyncpg.Connection, job: JobKey) -> JobState | None:
    """Return the job's state, or None if there is no such job. No other query is as cheap."""
    state: str | None = await _sql.get_state(connection, **job._asdict())
    return JobState(state) if state else None


async def get_counts(connection: asyncpg.Connection, job: JobKey) -> JobCounts | None:
    """Return the exact current counts of the job, or None if there is no such job."""
    row = await _sql.read_job_counts(connection, **job._asdict(), recent_seconds=RECENT_SECONDS)
    return JobCounts(**{**row, "state": JobState(row["state"])}) if row else None


async def get_progress(connection: asyncpg.Connection, job: JobKey) -> JobProgress | None:
    """Return the job's progress, cheap enough for several times a second."""
    row = await _sql.read_job_progress(connection, **job._asdict())
    return JobProgress(JobState(row["state"]), *row[1:]) if row else None
