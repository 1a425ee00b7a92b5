"""The dramatiq actors: each calls the coroutine that does the work of a message."""

import time
from collections.abc import Awaitable, Callable

import dramatiq

from db.errors import TRANSIENT_ERRORS
from db.lanes import LaneToken
from runtime import events, logs
from schemas.job_key import JobKey
from workers.context import WorkerContext
from workers.job_start import start_job
from workers.queue_names import (
    ADVANCE,
    ADVANCE_URGENT,
    BULK,
    OPT_OUTS,
    START,
    START_URGENT,
    STARTS,
)
from workers.server_outages import Outages
from workers.slices import advance_lane

log = logs.get_logger()

# The order in which a process works on the messages that it has fetched. Every job has its first
# slice before any job has another one, and opt-outs come first. After that opt-outs and other jobs
# take turns, so that one large opt-out does not delay all other jobs.
_FIRST, _SECOND, _THIRD = 0, 10, 20


def declare_actors(broker: dramatiq.Broker, context: WorkerContext, outages: Outages) -> None:
    """Declare every actor on the broker."""

    async def start(account_id: int, job_id: int) -> None:
        job = JobKey(account_id, job_id)
        await _run_guarded(outages, context, job_id, lambda: start_job(context, job))

    async def advance(account_id: int, job_id: int, lane: int, token: int) -> None:
        named = LaneToken(account_id, job_id, lane, token)
        await _run_guarded(outages, context, job_id, lambda: advance_lane(context, named))

    for function, name, queue, priority in (
        (start, START_URGENT, OPT_OUTS, _FIRST),
        (start, START, STARTS, _SECOND),
        (advance, ADVANCE_URGENT, OPT_OUTS, _THIRD),
        (advance, ADVANCE, BULK, _THIRD),
    ):
        declare = dramatiq.actor(
            actor_name=name, queue_name=queue, priority=priority, broker=broker
        )
        declare(function)


async def _run_guarded(
    outages: Outages, context: WorkerContext, job_id: int, work: Callable[[], Awaitable[None]]
) -> None:
    """Run the work and log its errors. dramatiq must not retry: the sweeper enqueues the job."""
    requested_at = time.monotonic()
    try:
        await work()
        outages.database.record_success(requested_at)
    except TRANSIENT_ERRORS as error:
        await outages.handle_transient_error(context.pool, error, job_id)
    except Exception as error:
        log.error(
            events.WORKER_FAILED,
            worker=context.name,
            job=job_id,
            error=type(error).__name__,
            exc_info=error,
        )
