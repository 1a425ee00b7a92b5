"""The actors: thin, each a message's way to the coroutine that does the work."""

import time
from collections.abc import Awaitable, Callable

import dramatiq

from db.errors import TRANSIENT_ERRORS
from db.lanes import LaneToken
from runtime import events, logs
from schemas.job_key import JobKey
from workers import slices
from workers.context import WorkerContext
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

log = logs.get_logger()

# What one process has fetched is served in this order; between processes the queues are apart.
# Every job has its first slice before any has another one, opt-outs first of all. From then on
# opt-outs and other work take turns: one large opt-out must not keep everybody else waiting.
_PRIORITY = {START_URGENT: 0, START: 10, ADVANCE_URGENT: 20, ADVANCE: 20}


def declare_actors(broker: dramatiq.Broker, context: WorkerContext, outages: Outages) -> None:
    """Declare every actor on the broker."""

    async def start(account_id: int, job_id: int) -> None:
        job = JobKey(account_id, job_id)
        await _run_guarded(outages, context, job_id, lambda: slices.start_job(context, job))

    async def advance(account_id: int, job_id: int, lane: int, token: int) -> None:
        held = LaneToken(account_id, job_id, lane, token)
        await _run_guarded(outages, context, job_id, lambda: slices.advance_lane(context, held))

    for function, name, queue in (
        (start, START, STARTS),
        (start, START_URGENT, OPT_OUTS),
        (advance, ADVANCE, BULK),
        (advance, ADVANCE_URGENT, OPT_OUTS),
    ):
        dramatiq.actor(actor_name=name, queue_name=queue, priority=_PRIORITY[name], broker=broker)(
            function
        )


async def _run_guarded(
    outages: Outages, context: WorkerContext, job_id: int, work: Callable[[], Awaitable[None]]
) -> None:
    """Run the work and never raise to the queue, which must not retry: the sweeper enqueues what is
    left.
    """
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
