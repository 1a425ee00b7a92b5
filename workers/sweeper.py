"""Finding work that nobody comes to, and ringing for it; and measuring what waits.

Any worker process may do it, one at a time. It never depends on Redis having kept anything.
"""

from typing import NamedTuple

import asyncpg

from actions.registry import all_actions
from db import progress
from db.progress import RungLane
from runtime import events, logs
from workers.context import WorkerContext
from workers.queues import is_urgent

log = logs.get()


class _SilentJob(NamedTuple):
    """A job that has chunks which nobody works on, and the lanes to ring for it."""

    id: int
    action: str
    correlation_id: str
    lanes: list[RungLane]


async def sweep(context: WorkerContext) -> None:
    """Ring for every job that has work and shows no sign of progress.

    Not while Redis is away: what counts as rung then would wait for longer once it is back. The
    consumers, which try again every second, notice that it is.
    """
    settings = context.settings
    async with context.pool.acquire() as connection:
        if context.doorbell.is_silent:
            # Whoever runs this takes its return for an answer of Postgres.
            await progress.require_answer(connection)
            return
        plans: list[tuple[int, str]] = []
        lanes: list[_SilentJob] = []
        async with connection.transaction():
            if not await progress.try_sweep(connection, settings.sweep_seconds / 2):
                return
            plans = await progress.silent_plans(connection, settings.silence_seconds)
            for job_id, action, correlation_id in await progress.running_jobs(connection):
                if rung := await _silent_lanes(context, connection, job_id):
                    lanes.append(_SilentJob(job_id, action, correlation_id, rung))
    if await _ring_plans(context, plans):
        await _ring_lanes(context, lanes)


async def _ring_plans(context: WorkerContext, plans: list[tuple[int, str]]) -> bool:
    """Ring for jobs without a plan; False when the queue does not answer, and then no further."""
    for job_id, action in plans:
        if not await context.doorbell.ring_start(job_id, urgent=is_urgent(action)):
            return False
        log.info(events.SWEEP_RANG, job=job_id, action=action, why="waits for its plan", lanes=1)
    return True


async def _ring_lanes(context: WorkerContext, silent: list[_SilentJob]) -> None:
    for job_id, action, correlation_id, lanes in silent:
        if not await context.doorbell.ring_lanes(job_id, lanes, urgent=is_urgent(action)):
            return
        log.info(
            events.SWEEP_RANG,
            job=job_id,
            action=action,
            why="has chunks that nobody works on",
            lanes=len(lanes),
            correlation_id=correlation_id,
        )


async def _silent_lanes(
    context: WorkerContext, connection: asyncpg.Connection, job_id: int
) -> list[RungLane]:
    settings = context.settings
    most = await progress.unattended_chunks(connection, job_id, settings.job_lanes)
    if not most:
        return []
    return await progress.ring_silent_lanes(
        connection, job_id, most=most, silence_seconds=settings.silence_seconds
    )


async def measure(context: WorkerContext) -> None:
    """Log what waits in each queue, once for the whole fleet."""
    urgent = [action.name for action in all_actions().values() if action.urgent]
    async with context.pool.acquire() as connection:
        if not await progress.try_measure(connection, context.settings.measure_seconds):
            return
        loads = await progress.measure(connection, urgent, context.settings.job_lanes)
    for load in loads:
        log.info(
            events.QUEUE_MEASURED,
            queue=load.queue,
            pending_chunks=load.pending_chunks,
            planning_jobs=load.planning_jobs,
            oldest_seconds=round(load.oldest_seconds, 3),
            running_jobs=load.running_jobs,
            work_seconds=round(load.work_seconds, 3),
        )
