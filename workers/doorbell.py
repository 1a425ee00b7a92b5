"""Ringing for a worker. Postgres decides what there is to do; a lost ring costs seconds."""

import asyncio
from collections.abc import Iterable
from typing import Any

import redis
from dramatiq import Broker, Message

from db.progress import RungLane
from runtime.settings import Settings
from workers.broker import make_client_broker
from workers.outages import Outage, queue_outage
from workers.queues import (
    ADVANCE,
    ADVANCE_URGENT,
    BULK,
    OPT_OUTS,
    START,
    START_URGENT,
    STARTS,
    is_urgent,
)


class Doorbell:
    """Sends the messages that bring workers to a job."""

    def __init__(self, broker: Broker, outage: Outage) -> None:
        self._broker = broker
        self._outage = outage

    async def ring_start(self, job_id: int, *, urgent: bool) -> bool:
        """Have the job planned, or its lanes woken; False when the queue does not answer."""
        return await self._send(
            OPT_OUTS if urgent else STARTS, START_URGENT if urgent else START, (job_id,)
        )

    async def ring_lanes(self, job_id: int, lanes: Iterable[RungLane], *, urgent: bool) -> bool:
        """Have lanes of the job worked; False when the queue does not answer.

        After the first ring that fails none is tried: each would wait as long for an answer, and
        the sweeper rings again for all of them.
        """
        for lane in lanes:
            sent = await self._send(
                OPT_OUTS if urgent else BULK,
                ADVANCE_URGENT if urgent else ADVANCE,
                (job_id, lane.lane, lane.hop),
            )
            if not sent:
                return False
        return True

    async def _send(self, queue: str, actor: str, args: tuple[Any, ...]) -> bool:
        message: Message[Any] = Message(
            queue_name=queue, actor_name=actor, args=args, kwargs={}, options={}
        )
        try:
            await asyncio.to_thread(self._broker.enqueue, message)
        except (redis.RedisError, OSError) as error:
            self._outage.fails(error)
            return False
        self._outage.answers()
        return True


async def announce_job(settings: Settings, *, job_id: int, action: str) -> bool:
    """Ring for a job that was just stored or resumed.

    False when Redis did not answer; the job is safe, and the sweeper finds it within seconds.
    """
    broker = make_client_broker(settings)
    try:
        return await Doorbell(broker, queue_outage()).ring_start(job_id, urgent=is_urgent(action))
    finally:
        broker.close()
        broker.client.close()
