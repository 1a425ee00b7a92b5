"""Ringing for a worker. Postgres decides what there is to do; a lost ring costs seconds."""

import asyncio
from typing import Any

import redis
from dramatiq import Broker, Message

from runtime import events, logs
from runtime.settings import Settings
from workers.broker import make_client_broker
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

log = logs.get()


class Doorbell:
    """Sends the messages that bring workers to a job."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._reachable = True

    async def ring_start(self, job_id: int, *, urgent: bool) -> bool:
        """Have the job planned, or its lanes woken; False when the queue does not answer."""
        return await self._send(
            OPT_OUTS if urgent else STARTS, START_URGENT if urgent else START, (job_id,)
        )

    async def ring_lane(self, job_id: int, lane: int, hop: int, *, urgent: bool) -> bool:
        """Have a lane of the job worked; False when the queue does not answer."""
        return await self._send(
            OPT_OUTS if urgent else BULK,
            ADVANCE_URGENT if urgent else ADVANCE,
            (job_id, lane, hop),
        )

    async def _send(self, queue: str, actor: str, args: tuple[Any, ...]) -> bool:
        message: Message[Any] = Message(
            queue_name=queue, actor_name=actor, args=args, kwargs={}, options={}
        )
        try:
            await asyncio.to_thread(self._broker.enqueue, message)
        except (redis.RedisError, OSError) as error:
            # Once per outage and not per ring: the sweeper rings again every few seconds.
            if self._reachable:
                log.warning(events.QUEUE_UNREACHABLE, error=type(error).__name__)
            self._reachable = False
            return False
        if not self._reachable:
            log.info(events.QUEUE_RECOVERED)
        self._reachable = True
        return True


async def announce_job(settings: Settings, *, job_id: int, action: str) -> bool:
    """Ring for a job that was just stored or resumed.

    False when Redis did not answer; the job is safe, and the sweeper finds it within seconds.
    """
    broker = make_client_broker(settings)
    try:
        return await Doorbell(broker).ring_start(job_id, urgent=is_urgent(action))
    finally:
        broker.close()
        broker.client.close()
