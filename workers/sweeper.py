"""Finding work that no worker comes to, and enqueueing it; and measuring what waits.

Any worker process may do it, one at a time. It never depends on Redis having kept anything.
"""

from contextlib import suppress
from typing import Any

import asyncpg

from actions.registry import all_actions
from db import chunks, lanes, queue_stats, sweeps
from db.lanes import StalledLane
from db.sweeps import RunningJob, StalledPlan
from runtime import events, logs
from workers.context import WorkerContext
from workers.enqueue import QueuedMessages
from workers.queue_names import is_urgent

log = logs.get_logger()


async def sweep(context: WorkerContext) -> None:
    """Enqueue every job that has work and shows no sign of progress.

    It does nothing while Redis is away: what counts as queued then would wait longer afterwards.
    The consumers, which try again every second, notice when it is back.
    """
    settings = context.settings
    # Looked at first: what was taken since then is found taken.
    queued_messages = (
        None if context.job_queue.is_down else await context.job_queue.queued_messages()
    )
    async with context.pool.acquire() as connection:
        if queued_messages is None:
            # Whoever runs this takes its return for an answer of Postgres.
            await sweeps.ping(connection)
            return
        if not await sweeps.try_sweep(connection, settings.sweep_seconds / 2):
            return
        # A session of another role is not ours to end.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await chunks.terminate_overlong_chunks(connection)
        plans = await sweeps.list_stalled_plans(connection, settings.stalled_after_seconds)
        if not await _enqueue_unplanned_jobs(context, plans, queued_messages):
            return
        # A transaction for each job, which ends before it is rung for: workers wait for its locks.
        for job in await sweeps.list_running_jobs(connection):
            stalled = await lanes.requeue_stalled_lanes(
                connection,
                job.key,
                limit=settings.job_concurrency,
                stalled_after_seconds=settings.stalled_after_seconds,
            )
            _log_lost_workers(context, job, stalled)
            if stalled and not await _enqueue_lanes(context, job, stalled, queued_messages):
                return


async def _enqueue_unplanned_jobs(
    context: WorkerContext, plans: list[StalledPlan], queued_messages: QueuedMessages
) -> bool:
    """Ring for jobs without a plan; False when the queue does not answer, and then no further."""
    for key, action in plans:
        if not await context.job_queue.enqueue_start(key, urgent=is_urgent(action)):
            return False
        _log_requeue(
            action in all_actions() and not queued_messages.contains(*key),
            job=key.job_id,
            action=action,
            reason="waits for its plan",
            lanes=1,
        )
    return True


async def _enqueue_lanes(
    context: WorkerContext,
    job: RunningJob,
    stalled: list[StalledLane],
    queued_messages: QueuedMessages,
) -> bool:
    """Ring the lanes of a job; False when the queue does not answer."""
    queued = [each.lane for each in stalled]
    if not await context.job_queue.enqueue_lanes(queued, urgent=is_urgent(job.action)):
        return False
    _log_requeue(
        job.action in all_actions()
        and any(
            each.found == "queued" and not queued_messages.contains(*each.lane) for each in stalled
        ),
        job=job.id,
        action=job.action,
        reason="has chunks that nobody works on",
        lanes=len(stalled),
        correlation_id=job.correlation_id,
    )
    return True


def _log_requeue(is_message_lost: bool, **facts: Any) -> None:  # noqa: FBT001 - says which of two lines it is
    """Warn where a message was lost. Others are behind in the queue, or the job only rested."""
    write = log.warning if is_message_lost else log.debug
    write(events.SWEEP_REQUEUED, **facts)


def _log_lost_workers(context: WorkerContext, job: RunningJob, stalled: list[StalledLane]) -> None:
    for lane in stalled:
        if lane.found == "held":
            log.warning(
                events.WORKER_LOST,
                job=job.id,
                account=job.account_id,
                action=job.action,
                chunk=lane.lost_chunk,
                worker=lane.worker,
                detected_by=context.name,
                correlation_id=job.correlation_id,
            )


async def log_queue_stats(context: WorkerContext) -> None:
    """Log what waits in each queue, once for the whole fleet."""
    urgent = [action.name for action in all_actions().values() if action.urgent]
    async with context.pool.acquire() as connection:
        if not await sweeps.try_begin_queue_stats(connection, context.settings.queue_stats_seconds):
            return
        loads = await queue_stats.read_queue_loads(
            connection, urgent, context.settings.job_concurrency
        )
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
