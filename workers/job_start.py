"""The start of a job: plan or forecast it, and work on its first slice in the same message.

So a small job is done before it waits in the queue behind large ones. If the worker dies, the plan
is rolled back, and the sweeper (`workers/sweeper.py`) enqueues the job again.
"""

import asyncpg

from db import lanes
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobToWork
from engine.planner import forecast_job, plan_job
from engine.retry_policy import describe_error
from runtime import logs
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from workers.context import WorkerContext
from workers.job_end import fail_job
from workers.slices import advance_lane, find_job


async def start_job(context: WorkerContext, key: JobKey) -> None:
    """Plan the job if it is not planned, then work on its first slice if it runs."""
    async with context.pool.acquire() as connection:
        job = await find_job(connection, key)
        if job is None or not await _ensure_planned(context, connection, job):
            return
        queued = await lanes.queue_idle_lanes(connection, key, min_lanes=1, limit=1)
    for lane in queued:
        await advance_lane(context, lane)


async def _ensure_planned(
    context: WorkerContext, connection: asyncpg.Connection, job: JobToWork
) -> bool:
    """Plan the job if it waits for that; return whether it runs now."""
    if job.state != JobState.PLANNING:
        return job.state == JobState.RUNNING
    with logs.bind_context(correlation_id=job.correlation_id):
        try:
            return await _plan_or_forecast(context, connection, job.key)
        except TRANSIENT_ERRORS:
            raise
        except Exception as error:
            await fail_job(context, connection, job, error, describe_error(error))
            raise


async def _plan_or_forecast(
    context: WorkerContext, connection: asyncpg.Connection, job: JobKey
) -> bool:
    settings = context.settings
    plan = await plan_job(
        connection, job, chunk_size=settings.chunk_size, max_lanes=settings.job_concurrency
    )
    if plan is not None and plan.state == JobState.RUNNING:
        return True
    state = await forecast_job(
        connection,
        context.pool,
        job,
        chunk_size=settings.chunk_size,
        role_address_limit=settings.role_address_limit,
    )
    return state is JobState.RUNNING
