"""Enqueueing work. Postgres decides what there is to do; a lost message costs seconds."""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker

from db.lanes import LaneToken
from runtime.outages import Outage, queue_outage
from runtime.settings import Settings
from schemas.job_key import JobKey
from workers.broker import drop_idle_connections, make_client_broker
from workers.queue_names import (
    ADVANCE,
    ADVANCE_URGENT,
    BULK,
    OPT_OUTS,
    START,
    START_URGENT,
    STARTS,
    is_urgent,
)

ENQUEUE_THREADS = 4
"""So many rings may wait for Redis at the same time."""

PAUSE_AFTER_ERROR_SECONDS = 1.0
"""For so long after a ring that failed none is tried. Each would wait for seconds, and with it
whoever submits a job; when Redis is back, the sweeper rings for all that was not rung for."""


MAX_SCANNED_MESSAGES = 5_000
"""So many messages in a queue are not looked through: who waits behind them waits in a queue."""


class QueuedMessages(NamedTuple):
    """What the messages are about that wait in Redis, or are worked: (account, job), or (account,
    job, lane, token).

    None if there are too many to look through.
    """

    messages: frozenset[tuple[int, ...]] | None

    def contains(self, *about: int) -> bool:
        """Return whether a message about that may be under way."""
        return self.messages is None or about in self.messages


class JobQueue:
    """Sends the messages that bring workers to a job.

    It has threads of its own, so that a silent Redis blocks no other ones.
    """

    def __init__(self, broker: RedisBroker, outage: Outage) -> None:
        self._broker = broker
        self._outage = outage
        self._executor = ThreadPoolExecutor(ENQUEUE_THREADS, thread_name_prefix="enqueue")
        self._paused_until = 0.0
        outage.on_recovery(lambda: drop_idle_connections(broker))

    @property
    def outage(self) -> Outage:
        """What is known about Redis, which others may ask as well."""
        return self._outage

    @property
    def is_down(self) -> bool:
        """Whether Redis was away when it was last tried, by whomever the outage is shared with."""
        return self._outage.is_down

    async def enqueue_start(self, job: JobKey, *, urgent: bool) -> bool:
        """Have the job planned, or its lanes woken; False when the queue does not answer."""
        return await self._send(
            OPT_OUTS if urgent else STARTS, START_URGENT if urgent else START, job
        )

    async def enqueue_lanes(self, lanes: Iterable[LaneToken], *, urgent: bool) -> bool:
        """Enqueue lanes; return False if the queue does not answer.

        After the first failure no other lane is tried: each would wait as long for an answer, and
        the sweeper enqueues all of them again.
        """
        for lane in lanes:
            sent = await self._send(
                OPT_OUTS if urgent else BULK,
                ADVANCE_URGENT if urgent else ADVANCE,
                lane,
            )
            if not sent:
                return False
        return True

    async def queued_messages(self) -> QueuedMessages | None:
        """Return the messages that wait in Redis or are worked on; None if the queue does not
        answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read_messages)

    def _read_messages(self) -> QueuedMessages | None:
        requested_at = time.monotonic()
        if requested_at < self._paused_until:
            return None
        client: Any = self._broker.client
        found: set[tuple[int, ...]] = set()
        try:
            for queue in (OPT_OUTS, STARTS, BULK):
                messages = f"{self._broker.namespace}:{queue}.msgs"
                if client.hlen(messages) > MAX_SCANNED_MESSAGES:
                    return QueuedMessages(None)
                found.update(tuple(Message.decode(text).args) for text in client.hvals(messages))
        except (redis.RedisError, OSError) as error:
            self._outage.record_failure(error, requested_at)
            self._paused_until = time.monotonic() + PAUSE_AFTER_ERROR_SECONDS
            return None
        self._outage.record_success(requested_at)
        return QueuedMessages(frozenset(found))

    async def _send(self, queue: str, actor: str, args: tuple[Any, ...]) -> bool:
        message: Message[Any] = Message(
            queue_name=queue, actor_name=actor, args=args, kwargs={}, options={}
        )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._enqueue, message)

    def _enqueue(self, message: Message[Any]) -> bool:
        requested_at = time.monotonic()
        if requested_at < self._paused_until:
            return False
        try:
            self._broker.enqueue(message)
        except (redis.RedisError, OSError) as error:
            self._outage.record_failure(error, requested_at)
            self._paused_until = time.monotonic() + PAUSE_AFTER_ERROR_SECONDS
            return False
        self._outage.record_success(requested_at)
        return True


async def enqueue_job(settings: Settings, job: JobKey, *, action: str) -> bool:
    """Ring for a job that was just stored or resumed.

    Return False if Redis did not answer. The job is safe, and the sweeper finds it within seconds.
    """
    assert settings.redis_url is not None
    job_queue = _job_queue(settings.redis_url, settings.queue_namespace)
    return await job_queue.enqueue_start(job, urgent=is_urgent(action))


def get_queue_outage(settings: Settings) -> Outage:
    """Return this process's tracker of outages of the Redis that it enqueues in."""
    assert settings.redis_url is not None
    return _job_queue(settings.redis_url, settings.queue_namespace).outage


@lru_cache(maxsize=8)
def _job_queue(redis_url: str, namespace: str) -> JobQueue:
    """Return this process's enqueuer for a Redis, so that its connections and outage state are
    reused.
    """
    return JobQueue(make_client_broker(redis_url, namespace), queue_outage())
