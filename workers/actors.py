"""The dramatiq actors: each calls the coroutine that does the work of a message."""

import dramatiq

from db.lanes import LaneToken
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

# The order in which a process works on the messages that it has fetched. Every job has its first
# slice before any job has another one, and opt-outs come first. After that opt-outs and other jobs
# take turns, so that one large opt-out does not delay all other jobs.
_FIRST, _SECOND, _THIRD = 0, 10, 20


def declare_actors(broker: dramatiq.Broker, context: WorkerContext, outages: Outages) -> None:
    """Declare every actor on the broker.

    They raise no error, since dramatiq must not retry: the sweeper enqueues the job.
    """

    async def start(account_id: int, job_id: int) -> None:
        work = start_job(context, JobKey(account_id, job_id))
        await outages.run_guarded(context, work, job=job_id)

    async def advance(account_id: int, job_id: int, lane: int, token: int) -> None:
        work = advance_lane(context, LaneToken(account_id, job_id, lane, token))
        await outages.run_guarded(context, work, job=job_id)

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
