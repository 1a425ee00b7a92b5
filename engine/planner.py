"""Freezing a job's selection into chunks, so that its total is known and nothing joins later.

A job that is planned first is counted then, and waits for somebody to confirm what it would do; on
a yes it is counted once more, and runs if the counts are still those.
"""

from typing import Any

import asyncpg

from actions.registry import action_named
from actions.rules.forecast import COUNTS, drift
from db import address_lists, import_chunks, planning, progress
from db.planning import JobToPlan, Plan
from engine.forecaster import forecast_of
from runtime import events, logs
from schemas.outcomes import JobState
from schemas.requests import THE_ADDRESS

log = logs.get()

_KEYS = {"further": "propagated"}

IMPORT_SHARE = 2 / 3
"""A chunk of an import has so much of the chunk size: to make a contact with its addresses takes
longer than to change them, and locks are to be held as briefly."""


async def plan(
    connection: asyncpg.Connection, job_id: int, *, chunk_size: int, lanes: int
) -> Plan | None:
    """Plan the job in one transaction; None when it needs no plan, or someone else is at it.

    The lanes are made with the plan, so that the sweeper finds a job whose planner was lost.
    """
    try:
        async with connection.transaction():
            job = await planning.take(connection, job_id)
            if job is None or job.planned_at is not None:
                return None
            await _freeze(connection, job, chunk_size)
            frozen = await planning.close(connection, job.id)
            if frozen is None:
                raise _CancelledMeanwhile
            await progress.make_lanes(connection, job.id, lanes)
    except _CancelledMeanwhile:
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


class _CancelledMeanwhile(Exception):
    """The job was cancelled while it was being planned: no chunk of it may stay."""


async def count_planned(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    job_id: int,
    *,
    chunk_size: int,
    shared_address_limit: int,
) -> JobState | None:
    """Count what a frozen job that is planned first would do, with the pool's help; gives the state
    that it is in then: `planned`, or `running` where it is what somebody has confirmed.

    None when there is nothing to count, or someone else is at it. Counting changes nothing, so that
    whoever comes after one who was lost begins again.
    """
    async with connection.transaction():
        job = await planning.take(connection, job_id)
        if job is None or job.planned_at is None:
            return None
        counts = await forecast_of(
            connection,
            pool,
            job,
            chunk_size=chunk_size,
            shared_address_limit=shared_address_limit,
        )
        return await _decide(connection, job, counts)


async def _decide(
    connection: asyncpg.Connection, job: JobToPlan, counts: dict[str, Any]
) -> JobState | None:
    facts = {"job": job.id, "account": job.account_id, "action": job.action}
    seen = job.confirmation
    if seen is None or "drift" in seen:
        if not await planning.show_forecast(connection, job.id, counts):
            return None
        log.info(events.PLAN_COUNTED, **facts, **_counts(counts))
        return JobState.PLANNED
    differences = drift(seen["expected"], counts)
    if any(abs(by) > seen["tolerance"] for by in differences.values()):
        if not await planning.show_forecast(connection, job.id, counts, drift=differences):
            return None
        log.warning(events.PLAN_DRIFTED, **facts, **_counts(counts))
        return JobState.PLANNED
    if not await planning.confirm_plan(connection, job.id, counts):
        return None
    log.info(events.PLAN_CONFIRMED, **facts, **_counts(counts))
    return JobState.RUNNING


def _counts(counts: dict[str, Any]) -> dict[str, int]:
    """The counts by the keys of the log, which has one name for what an opt-out reaches."""
    return {_KEYS.get(name, name): counts[name] for name in COUNTS}


async def _freeze(connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
    if job.fields == [THE_ADDRESS]:
        await address_lists.freeze_list(connection, job_id=job.id, chunk_size=chunk_size)
        return
    if not action_named(job.action).brings_contacts:
        await _freeze_selection(connection, job, chunk_size)
        return
    await import_chunks.make_tags(
        connection, account_id=job.account_id, job_id=job.id, tag=job.params.get("tag")
    )
    await planning.freeze_import(
        connection,
        job_id=job.id,
        fields=len(job.fields),
        chunk_size=max(1, int(chunk_size * IMPORT_SHARE)),
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
