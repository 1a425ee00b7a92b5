"""Ringing for a worker. Postgres decides what there is to do; a lost ring costs seconds."""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker

from db.progress import RungLane
from runtime.outages import Outage, queue_outage
from runtime.settings import Settings
from workers.broker import forget_idle_connections, make_client_broker
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

RINGERS = 4
"""So many rings may wait for Redis at the same time."""

QUIET_SECONDS = 1.0
"""For so long after a ring that failed none is tried. Each would wait for seconds, and with it
whoever submits a job; when Redis is back, the sweeper rings for all that was not rung for."""


MANY_MESSAGES = 5_000
"""So many messages in a queue are not looked through: who waits behind them waits in a queue."""


class UnderWay(NamedTuple):
    """What the messages are about that wait in Redis, or are worked: (job), or (job, lane, hop).

    None where they are too many to look through.
    """

    messages: frozenset[tuple[int, ...]] | None

    def has(self, *about: int) -> bool:
        """Whether a message about that may be under way."""
        return self.messages is None or about in self.messages


class Doorbell:
    """Sends the messages that bring workers to a job.

    It has threads of its own, so that Redis, when it says nothing, blocks nobody else's.
    """

    def __init__(self, broker: RedisBroker, outage: Outage) -> None:
        self._broker = broker
        self._outage = outage
        self._ringers = ThreadPoolExecutor(RINGERS, thread_name_prefix="doorbell")
        self._quiet_until = 0.0
        outage.when_back(lambda: forget_idle_connections(broker))

    @property
    def outage(self) -> Outage:
        """What is known about Redis, which others may ask as well."""
        return self._outage

    @property
    def is_silent(self) -> bool:
        """Whether Redis was away when it was last tried, by whomever the outage is shared with."""
        return self._outage.lasts

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

    async def under_way(self) -> UnderWay | None:
        """What is under way now; None when the queue does not answer."""
        return await asyncio.get_running_loop().run_in_executor(self._ringers, self._look)

    def _look(self) -> UnderWay | None:
        asked_at = time.monotonic()
        if asked_at < self._quiet_until:
            return None
        client: Any = self._broker.client
        found: set[tuple[int, ...]] = set()
        try:
            for queue in (OPT_OUTS, STARTS, BULK):
                messages = f"{self._broker.namespace}:{queue}.msgs"
                if client.hlen(messages) > MANY_MESSAGES:
                    return UnderWay(None)
                found.update(tuple(Message.decode(text).args) for text in client.hvals(messages))
        except (redis.RedisError, OSError) as error:
            self._outage.fails(error, asked_at)
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            return None
        self._outage.answers(asked_at)
        return UnderWay(frozenset(found))

    async def _send(self, queue: str, actor: str, args: tuple[Any, ...]) -> bool:
        message: Message[Any] = Message(
            queue_name=queue, actor_name=actor, args=args, kwargs={}, options={}
        )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._ringers, self._ring, message)

    def _ring(self, message: Message[Any]) -> bool:
        asked_at = time.monotonic()
        if asked_at < self._quiet_until:
            return False
        try:
            self._broker.enqueue(message)
        except (redis.RedisError, OSError) as error:
            self._outage.fails(error, asked_at)
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            return False
        self._outage.answers(asked_at)
        return True


async def announce_job(settings: Settings, *, job_id: int, action: str) -> bool:
    """Ring for a job that was just stored or resumed.

    False when Redis did not answer; the job is safe, and the sweeper finds it within seconds.
    """
    assert settings.redis_url is not None
    doorbell = _doorbell(settings.redis_url, settings.queue_namespace)
    return await doorbell.ring_start(job_id, urgent=is_urgent(action))


def outage_of_queue(settings: Settings) -> Outage:
    """What this process knows about the Redis that it rings by."""
    assert settings.redis_url is not None
    return _doorbell(settings.redis_url, settings.queue_namespace).outage


@lru_cache(maxsize=8)
def _doorbell(redis_url: str, namespace: str) -> Doorbell:
    """The process's own for a Redis: its connections, and what it knows of an outage, are kept."""
    return Doorbell(make_client_broker(redis_url, namespace), queue_outage())
