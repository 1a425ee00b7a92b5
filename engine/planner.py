"""Freezing a job's selection into chunks, so that its total is known and nothing joins later.

A planned job is then forecast, and waits for a confirmation. Once confirmed, it is forecast again,
and runs if its counts are still those that were confirmed.
"""

from typing import Any

import asyncpg

from actions.rules.forecast import FORECAST_COUNTS, drift
from db import lanes, planning
from db.planning import JobToPlan, Plan
from engine.forecaster import compute_forecast
from engine.sources import source_of
from runtime import events, logs
from schemas.job_key import JobKey
from schemas.outcomes import JobState

log = logs.get_logger()


async def plan_job(
    connection: asyncpg.Connection, key: JobKey, *, chunk_size: int, max_lanes: int
) -> Plan | None:
    """Plan the job in one transaction; None if it needs no plan or another worker plans it.

    The lanes are created with the plan, so that the sweeper finds a job whose planner was lost.
    """
    try:
        async with connection.transaction():
            job = await planning.lock_job_to_plan(connection, key)
            if job is None or job.planned_at is not None:
                return None
            await source_of(job).freeze(connection, job, chunk_size)
            frozen = await planning.close_plan(connection, key)
            if frozen is None:
                raise _ConcurrentCancel
            await lanes.insert_lanes(connection, key, max_lanes)
    except _ConcurrentCancel:
        return None
    log.info(events.JOB_PLANNED, **job.log_fields, selected=frozen.selected, chunks=frozen.chunks)
    return frozen


class _ConcurrentCancel(Exception):
    """The job was cancelled during its planning: its chunks must be rolled back."""


async def forecast_job(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    key: JobKey,
    *,
    chunk_size: int,
    role_address_limit: int,
) -> JobState | None:
    """Forecast a frozen planned job, and return its new state.

    That is `planned`, or `running` if the forecast is what was confirmed. Return None if there is
    nothing to forecast, or another worker does it. The pool gives the forecast more connections. A
    forecast changes nothing, so it can be repeated if its worker is lost.
    """
    async with connection.transaction():
        job = await planning.lock_job_to_plan(connection, key)
        if job is None or job.planned_at is None:
            return None
        counts = await compute_forecast(
            connection,
            pool,
            job,
            chunk_size=chunk_size,
            role_address_limit=role_address_limit,
        )
        return await _store_forecast(connection, job, counts)


async def _store_forecast(
    connection: asyncpg.Connection, job: JobToPlan, counts: dict[str, Any]
) -> JobState | None:
    confirmation = job.confirmation
    log_fields = job.log_fields | {name: counts[name] for name in FORECAST_COUNTS}
    if confirmation is None or "drift" in confirmation:
        if not await planning.store_forecast(connection, job.key, counts):
            return None
        log.info(events.PLAN_COUNTED, **log_fields)
        return JobState.PLANNED
    differences = drift(confirmation["expected"], counts)
    if any(abs(by) > confirmation["tolerance"] for by in differences.values()):
        if not await planning.store_forecast(connection, job.key, counts, drift=differences):
            return None
        log.warning(events.PLAN_DRIFTED, **log_fields)
        return JobState.PLANNED
    if not await planning.store_forecast(connection, job.key, counts, state=JobState.RUNNING):
        return None
    log.info(events.PLAN_CONFIRMED, **log_fields)
    return JobState.RUNNING
