"""Finding work that nobody comes to, and ringing for it; and measuring what waits.

Any worker process may do it, one at a time. It never depends on Redis having kept anything.
"""

from contextlib import suppress
from typing import Any

import asyncpg

from actions.registry import all_actions
from db import chunks, progress
from db.progress import RunningJob, SilentLane
from runtime import events, logs
from workers.context import WorkerContext
from workers.enqueue import UnderWay
from workers.queues import is_urgent

log = logs.get()


async def sweep(context: WorkerContext) -> None:
    """Ring for every job that has work and shows no sign of progress.

    Not while Redis is away: what counts as rung then would wait for longer once it is back. The
    consumers, which try again every second, notice that it is.
    """
    settings = context.settings
    # Looked at first: what was taken since then is found taken.
    under_way = None if context.doorbell.is_silent else await context.doorbell.under_way()
    async with context.pool.acquire() as connection:
        if under_way is None:
            # Whoever runs this takes its return for an answer of Postgres.
            await progress.require_answer(connection)
            return
        if not await progress.try_sweep(connection, settings.sweep_seconds / 2):
            return
        # A session of another role is not ours to end.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await chunks.end_overlong(connection)
        plans = await progress.silent_plans(connection, settings.silence_seconds)
        if not await _ring_plans(context, plans, under_way):
            return
        # A transaction for each job, which ends before it is rung for: workers wait for its locks.
        for job in await progress.running_jobs(connection):
            lanes = await progress.ring_silent_lanes(
                connection,
                job.id,
                most=settings.job_lanes,
                silence_seconds=settings.silence_seconds,
            )
            _tell_lost(context, job, lanes)
            if lanes and not await _ring_lanes(context, job, lanes, under_way):
                return


async def _ring_plans(
    context: WorkerContext, plans: list[tuple[int, str]], under_way: UnderWay
) -> bool:
    """Ring for jobs without a plan; False when the queue does not answer, and then no further."""
    for job_id, action in plans:
        if not await context.doorbell.ring_start(job_id, urgent=is_urgent(action)):
            return False
        _log_at(
            action in all_actions() and not under_way.has(job_id),
            job=job_id,
            action=action,
            why="waits for its plan",
            lanes=1,
        )
    return True


async def _ring_lanes(
    context: WorkerContext, job: RunningJob, lanes: list[SilentLane], under_way: UnderWay
) -> bool:
    """Ring the lanes of a job; False when the queue does not answer."""
    rung = [lane.rung for lane in lanes]
    if not await context.doorbell.ring_lanes(job.id, rung, urgent=is_urgent(job.action)):
        return False
    _log_at(
        job.action in all_actions()
        and any(
            lane.found == "rung" and not under_way.has(job.id, lane.lane, lane.hop)
            for lane in lanes
        ),
        job=job.id,
        action=job.action,
        why="has chunks that nobody works on",
        lanes=len(lanes),
        correlation_id=job.correlation_id,
    )
    return True


def _log_at(is_wrong: bool, **facts: Any) -> None:  # noqa: FBT001 - says which of two lines it is
    """Warn where a message was lost. Others are behind in the queue, or the job only rested."""
    write = log.warning if is_wrong else log.debug
    write(events.SWEEP_RANG, **facts)


def _tell_lost(context: WorkerContext, job: RunningJob, lanes: list[SilentLane]) -> None:
    for lane in lanes:
        if lane.found == "taken":
            log.warning(
                events.WORKER_LOST,
                job=job.id,
                account=job.account_id,
                action=job.action,
                chunk=lane.lost_chunk,
                worker=lane.worker,
                found_by=context.name,
                correlation_id=job.correlation_id,
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
