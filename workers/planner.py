"""Freezing a job's selection into chunks, so that its total is known and nothing joins later."""

import asyncpg

from actions.registry import action_named
from db import address_lists, arrivals, planning, progress
from db.planning import JobToPlan, Plan
from runtime import events, logs
from schemas.requests import THE_ADDRESS

log = logs.get()

IMPORT_SHARE = 2
"""A chunk of an import has the chunk size divided by this: to make a contact with its addresses
takes about three times as long as to change them, and locks are to be held as briefly."""


async def plan(
    connection: asyncpg.Connection, job_id: int, *, chunk_size: int, lanes: int
) -> Plan | None:
    """Plan the job in one transaction; None when it needs no plan, or someone else is at it.

    The lanes are made with the plan, so that the sweeper finds a job whose planner was lost.
    """
    try:
        async with connection.transaction():
            job = await planning.take(connection, job_id)
            if job is None:
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


async def _freeze(connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
    if job.fields == [THE_ADDRESS]:
        await address_lists.freeze_list(connection, job_id=job.id, chunk_size=chunk_size)
        return
    if not action_named(job.action).brings_contacts:
        await _freeze_selection(connection, job, chunk_size)
        return
    await arrivals.make_tags(
        connection, account_id=job.account_id, job_id=job.id, tag=job.params.get("tag")
    )
    await planning.freeze_import(
        connection,
        job_id=job.id,
        fields=len(job.fields),
        chunk_size=max(1, chunk_size // IMPORT_SHARE),
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
        statuses=selection.get("statuses") or None,
        chunk_size=chunk_size,
    )
