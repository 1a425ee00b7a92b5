"""Freezing a job's selection into chunks, so that its total is known and nothing joins later.

A planned job is then forecast, and waits for a confirmation. After that it is forecast again, and
runs if the counts are still those.
"""

from typing import Any

import asyncpg

from actions.registry import get_action
from actions.rules.forecast import FORECAST_COUNTS, drift
from db import address_lists, import_chunks, lanes, planning
from db.planning import JobToPlan, Plan
from engine.forecaster import compute_forecast
from runtime import events, logs
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from schemas.requests import LISTED_ADDRESS_FIELD

log = logs.get_logger()

IMPORT_CHUNK_SHARE = 2 / 3
"""A chunk of an import has so much of the chunk size: to make a contact with its addresses takes
longer than to change them, and locks are to be held as briefly."""


async def plan_job(
    connection: asyncpg.Connection, key: JobKey, *, chunk_size: int, max_lanes: int
) -> Plan | None:
    """Plan the job in one transaction; None when it needs no plan, or someone else is at it.

    The lanes are made with the plan, so that the sweeper finds a job whose planner was lost.
    """
    try:
        async with connection.transaction():
            job = await planning.lock_job_to_plan(connection, key)
            if job is None or job.planned_at is not None:
                return None
            await _freeze(connection, job, chunk_size)
            frozen = await planning.close_plan(connection, key)
            if frozen is None:
                raise _ConcurrentCancel
            await lanes.insert_lanes(connection, key, max_lanes)
    except _ConcurrentCancel:
        return None
    log.info(
        events.JOB_PLANNED,
        job=job.id,
        account=job.account_id,
        action=job.action,
        selected=frozen.selected,
        chunks=frozen.chunks,
    )
    return frozen


class _ConcurrentCancel(Exception):
    """The job was cancelled while it was being planned: no chunk of it may stay."""


async def forecast_job(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    key: JobKey,
    *,
    chunk_size: int,
    shared_address_limit: int,
) -> JobState | None:
    """Forecast a frozen planned job with the pool's help, and return the state it is in then.

    That is `planned`, or `running` if the forecast is what was confirmed. Return None if there is
    nothing to forecast, or another worker does it. A forecast changes nothing, so the next worker
    can start again after one that was lost.
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
            shared_address_limit=shared_address_limit,
        )
        return await _store_forecast(connection, job, counts)


async def _store_forecast(
    connection: asyncpg.Connection, job: JobToPlan, counts: dict[str, Any]
) -> JobState | None:
    facts = {"job": job.id, "account": job.account_id, "action": job.action}
    confirmation = job.confirmation
    if confirmation is None or "drift" in confirmation:
        if not await planning.store_forecast(connection, job.key, counts):
            return None
        log.info(events.PLAN_COUNTED, **facts, **_log_counts(counts))
        return JobState.PLANNED
    differences = drift(confirmation["expected"], counts)
    if any(abs(by) > confirmation["tolerance"] for by in differences.values()):
        if not await planning.store_forecast(connection, job.key, counts, drift=differences):
            return None
        log.warning(events.PLAN_DRIFTED, **facts, **_log_counts(counts))
        return JobState.PLANNED
    if not await planning.confirm_plan(connection, job.key, counts):
        return None
    log.info(events.PLAN_CONFIRMED, **facts, **_log_counts(counts))
    return JobState.RUNNING


def _log_counts(counts: dict[str, Any]) -> dict[str, int]:
    """Return the counts that the log has."""
    return {name: counts[name] for name in FORECAST_COUNTS}


async def _freeze(connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
    if job.fields == [LISTED_ADDRESS_FIELD]:
        await address_lists.freeze_list(connection, job.key, chunk_size=chunk_size)
        return
    if not get_action(job.action).creates_contacts:
        await _freeze_selection(connection, job, chunk_size)
        return
    await import_chunks.insert_tags(connection, job.key, tag=job.params.get("tag"))
    await planning.freeze_import(
        connection,
        job.key,
        fields=len(job.fields),
        chunk_size=max(1, int(chunk_size * IMPORT_CHUNK_SHARE)),
    )


async def _freeze_selection(
    connection: asyncpg.Connection, job: JobToPlan, chunk_size: int
) -> None:
    selection = job.selection
    await planning.freeze_selection(
        connection,
        job=job,
        listed=selection.get("contacts") is not None,
        tag=selection.get("tag"),
        import_job=selection.get("import_job"),
        statuses=selection.get("statuses"),
        chunk_size=chunk_size,
    )
