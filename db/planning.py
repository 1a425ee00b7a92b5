"""Freezing a job's selection into chunks, and storing the forecast of a planned job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

from db.job_progress import JobToWork
from db.queries import load
from db.time_limits import IDLE_MS
from schemas.job_key import JobKey
from schemas.outcomes import JobState

_sql = load("planning")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobToPlan(JobToWork):
    """A job that waits for its plan, or a planned job that waits for its forecast.

    `planned_at` and `selected` are None until its selection is frozen; `confirmation` is the
    decision to apply it, if there is one.
    """

    selection: dict[str, Any]
    selected: int | None
    plan_first: bool
    confirmation: dict[str, Any] | None


class Plan(NamedTuple):
    """A frozen selection: the job's state, its pairs and its chunks."""

    state: str
    selected: int
    chunks: int


class PlanConfirmation(NamedTuple):
    """A planned job with a confirmation."""

    id: int
    action: str
    correlation_id: str


async def lock_job_to_plan(connection: asyncpg.Connection, job: JobKey) -> JobToPlan | None:
    """Lock the job for planning; return None if it needs none, or another process plans it."""
    if not await _sql.try_plan(connection, job_id=job.job_id, idle_ms=str(IDLE_MS)):
        return None
    row = await _sql.job_to_plan(connection, **job._asdict())
    return JobToPlan(**row) if row else None


async def freeze_import(
    connection: asyncpg.Connection, job: JobKey, *, fields: int, chunk_size: int
) -> None:
    """Insert chunks of the import's rows, and the addresses that several of the rows have."""
    await _sql.freeze_import(connection, **job._asdict(), fields=fields, chunk_size=chunk_size)
    await _sql.insert_repeats(connection, **job._asdict())


async def freeze_selection(
    connection: asyncpg.Connection, job: JobToPlan, *, chunk_size: int
) -> None:
    """Insert chunks of the contacts that meet every condition of the job's selection."""
    await _sql.freeze_selection(
        connection,
        **job.key._asdict(),
        fields=job.fields,
        listed=job.selection.get("contacts") is not None,
        **{name: job.selection.get(name) for name in ("tag", "import_job", "statuses")},
        chunk_size=chunk_size,
    )


async def close_plan(connection: asyncpg.Connection, job: JobKey) -> Plan | None:
    """Store that the selection is frozen; return None if the job was cancelled meanwhile."""
    row = await _sql.close_plan(connection, **job._asdict())
    return Plan(*row) if row else None


async def store_forecast(
    connection: asyncpg.Connection,
    job: JobKey,
    forecast: Mapping[str, Any],
    *,
    state: JobState = JobState.PLANNED,
    drift: Mapping[str, int] | None = None,
) -> bool:
    """Store the forecast of a planned job and its new state: `running` if it is confirmed.

    `drift` is by how much the forecast differs from the confirmed counts. Return False if the job
    was paused or cancelled meanwhile.
    """
    stored = await _sql.store_forecast(
        connection, **job._asdict(), forecast=forecast, state=state, drift=drift
    )
    return stored is not None


async def request_confirmation(
    connection: asyncpg.Connection, job: JobKey, *, confirmation: Mapping[str, Any]
) -> PlanConfirmation | None:
    """Store a confirmation, so that the job is forecast again; return None if it is not planned."""
    row = await _sql.request_confirmation(connection, **job._asdict(), confirmation=confirmation)
    return PlanConfirmation(*row) if row else None
