"""Freezing a job's selection into chunks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from db.time_limits import IDLE_MS
from schemas.job_key import JobKey

_sql = load("planning")


class JobToPlan(NamedTuple):
    """A job that waits for its plan, or a planned job that waits for its forecast.

    `planned_at` and `selected` are None until its selection is frozen; `confirmation` is the
    decision to apply it, if there is one.
    """

    id: int
    account_id: int
    action: str
    state: str
    fields: list[int]
    params: dict[str, Any]
    selection: dict[str, Any]
    correlation_id: str
    planned_at: datetime | None
    selected: int | None
    plan_first: bool
    confirmation: dict[str, Any] | None

    @property
    def key(self) -> JobKey:
        """The job's key."""
        return JobKey(self.account_id, self.id)

    @property
    def log_fields(self) -> dict[str, Any]:
        """The fields that every log line about the job has."""
        return {"job": self.id, "account": self.account_id, "action": self.action}


class Plan(NamedTuple):
    """What was frozen; `state` is the job's state from now on."""

    state: str
    selected: int
    chunks: int


async def lock_job_to_plan(connection: asyncpg.Connection, job: JobKey) -> JobToPlan | None:
    """Lock the job for planning; None unless it waits for its plan and no other process
    plans it.
    """
    if not await _sql.try_plan(connection, job_id=job.job_id, idle_ms=str(IDLE_MS)):
        return None
    row = await _sql.job_to_plan(connection, **job._asdict())
    return JobToPlan(*row) if row else None


async def freeze_import(
    connection: asyncpg.Connection, job: JobKey, *, fields: int, chunk_size: int
) -> None:
    """Chunks of the contacts that the uploaded rows will become, and what repeats among them."""
    await _sql.freeze_import(connection, **job._asdict(), fields=fields, chunk_size=chunk_size)
    await _sql.insert_repeats(connection, **job._asdict())


async def freeze_selection(
    connection: asyncpg.Connection,
    *,
    job: JobToPlan,
    listed: bool,
    tag: str | None,
    import_job: int | None,
    statuses: Sequence[str] | None,
    chunk_size: int,
) -> None:
    """Write the chunks of the contacts that meet every condition; `listed` takes the
    job's own ids.
    """
    await _sql.freeze_selection(
        connection,
        account_id=job.account_id,
        job_id=job.id,
        fields=job.fields,
        listed=listed,
        tag=tag,
        import_job=import_job,
        statuses=statuses,
        chunk_size=chunk_size,
    )


async def close_plan(connection: asyncpg.Connection, job: JobKey) -> Plan | None:
    """Let the plan stand; None when the job was cancelled meanwhile."""
    row = await _sql.close_plan(connection, **job._asdict())
    return Plan(*row) if row else None


async def store_forecast(
    connection: asyncpg.Connection,
    job: JobKey,
    forecast: Mapping[str, Any],
    *,
    drift: Mapping[str, int] | None = None,
) -> bool:
    """Store the forecast of a planned job, which then waits for a confirmation.

    The counts of an earlier confirmation may differ from it by a drift. Return False if the job was
    paused or cancelled meanwhile.
    """
    shown = await _sql.store_forecast(connection, **job._asdict(), forecast=forecast, drift=drift)
    return shown is not None


async def confirm_plan(
    connection: asyncpg.Connection, job: JobKey, forecast: Mapping[str, Any]
) -> bool:
    """Let a job run whose forecast was confirmed; False as above."""
    return await _sql.confirm_plan(connection, **job._asdict(), forecast=forecast) is not None


class PlanConfirmation(NamedTuple):
    """A planned job with a confirmation."""

    id: int
    action: str
    correlation_id: str


async def request_confirmation(
    connection: asyncpg.Connection, job: JobKey, *, confirmation: Mapping[str, Any]
) -> PlanConfirmation | None:
    """Have a planned job counted once more, and run if it is as confirmed; None if it waits not."""
    row = await _sql.request_confirmation(connection, **job._asdict(), confirmation=confirmation)
    return PlanConfirmation(*row) if row else None
