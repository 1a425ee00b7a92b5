"""The sweeper: enqueue jobs that have work and show no sign of progress, and log queue statistics.

It finds the lanes of workers that died, gives them a new token and enqueues them. Every worker
process runs it, one at a time, and it relies on nothing that Redis kept.
"""

from contextlib import suppress

import asyncpg

from actions.registry import all_actions
from db import chunks, lanes, queue_stats, sweeps
from db.sweeps import SweptJob
from runtime import events, logs
from workers.context import WorkerContext
from workers.job_queue import QueuedMessages

log = logs.get_logger()


async def sweep(context: WorkerContext) -> None:
    """Enqueue every job that has work and shows no sign of progress.

    Nothing is done while Redis is down: a lane marked as queued would only wait longer when it is
    back. The consumers try again every second and notice that.
    """
    settings = context.settings
    # Read before the lanes: a message that is received in between is then found as a held lane.
    job_queue = context.job_queue
    queued_messages = None if job_queue.outage.is_down else await job_queue.queued_messages()
    async with context.pool.acquire() as connection:
        if queued_messages is None:
            # The caller takes a return without error as an answer of Postgres.
            await sweeps.ping(connection)
            return
        if not await sweeps.try_sweep(connection, settings.sweep_seconds / 2):
            return
        # It raises this for the session of another role, which is not ours to end.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await chunks.terminate_overlong_chunks(connection)
        if await _requeue_plans(context, connection, queued_messages):
            await _requeue_lanes(context, connection, queued_messages)


async def _requeue_plans(
    context: WorkerContext, connection: asyncpg.Connection, queued_messages: QueuedMessages
) -> bool:
    """Enqueue the jobs that wait for a plan; return False if Redis does not answer."""
    stalled_after_seconds = context.settings.stalled_after_seconds
    for job in await sweeps.list_stalled_plans(connection, stalled_after_seconds):
        if not await context.job_queue.enqueue_start(job.key, action=job.action):
            return False
        is_message_lost = not queued_messages.contains(*job.key)
        _log_requeue(job, 1, "waits for its plan", is_message_lost=is_message_lost)
    return True


async def _requeue_lanes(
    context: WorkerContext, connection: asyncpg.Connection, queued_messages: QueuedMessages
) -> None:
    """Enqueue the stalled lanes of running jobs; stop when Redis does not answer.

    Each job has a transaction of its own, which ends before its lanes are enqueued: their workers
    need its locks.
    """
    settings = context.settings
    for job in await sweeps.list_running_jobs(connection):
        stalled = await lanes.requeue_stalled_lanes(
            connection,
            job.key,
            limit=settings.job_concurrency,
            stalled_after_seconds=settings.stalled_after_seconds,
        )
        if not stalled:
            continue
        for each in stalled:
            if each.found == "held":
                log.warning(
                    events.WORKER_LOST,
                    job=job.key.job_id,
                    account=job.key.account_id,
                    action=job.action,
                    chunk=each.lost_chunk,
                    worker=each.worker,
                    detected_by=context.name,
                    correlation_id=job.correlation_id,
                )
        tokens = [each.lane for each in stalled]
        if not await context.job_queue.enqueue_lanes(tokens, action=job.action):
            return
        is_message_lost = any(
            each.found == "queued" and not queued_messages.contains(*each.lane) for each in stalled
        )
        _log_requeue(
            job, len(stalled), "has chunks that no worker holds", is_message_lost=is_message_lost
        )


def _log_requeue(job: SweptJob, lane_count: int, reason: str, *, is_message_lost: bool) -> None:
    """Log that lanes were enqueued: as a warning if a message was lost, otherwise for debugging.

    Without a lost message the job only waits behind others, or its lanes were idle. If this version
    does not know the action, its workers drop the messages, so none was lost.
    """
    is_warning = is_message_lost and job.action in all_actions()
    write = log.warning if is_warning else log.debug
    write(
        events.SWEEP_REQUEUED,
        job=job.key.job_id,
        action=job.action,
        reason=reason,
        lanes=lane_count,
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
