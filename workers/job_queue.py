"""The queue of a process. Postgres decides what there is to do, so a lost message costs seconds."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker

from db.lanes import LaneToken
from runtime.outages import Outage
from schemas.job_key import JobKey
from workers.broker import drop_idle_connections
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

T = TypeVar("T")

ENQUEUE_THREADS = 4
"""How many requests of a process may wait for Redis at the same time."""

PAUSE_AFTER_ERROR_SECONDS = 1.0
"""How long nothing is enqueued after an error. Each attempt could delay the answer to a submitter
by seconds, and the sweeper enqueues what was left out when Redis is back."""

MAX_SCANNED_MESSAGES = 5_000
"""Queues with more messages are not read. Jobs behind that many are waiting, not lost."""


class QueuedMessages(NamedTuple):
    """The arguments of the messages in Redis, waiting or being worked on.

    They are (account, job) or (account, job, lane, token). None if there are too many to read.
    """

    messages: frozenset[tuple[int, ...]] | None

    def contains(self, *arguments: int) -> bool:
        """Return whether there may be a message with these arguments."""
        return self.messages is None or arguments in self.messages


class JobQueue:
    """Enqueues the messages about jobs, in threads of its own: a silent Redis blocks no others."""

    def __init__(self, broker: RedisBroker, outage: Outage) -> None:
        self._broker = broker
        self.outage = outage
        """The tracker of this Redis's outages, which others may share."""
        self._executor = ThreadPoolExecutor(ENQUEUE_THREADS, thread_name_prefix="enqueue")
        self._paused_until = 0.0
        outage.on_recovery(lambda: drop_idle_connections(broker))

    async def enqueue_start(self, job: JobKey, *, action: str) -> bool:
        """Enqueue the start of the job, new or resumed; return False if Redis does not answer."""
        queue, actor = (OPT_OUTS, START_URGENT) if is_urgent(action) else (STARTS, START)
        return await self._send(queue, actor, job)

    async def enqueue_lanes(self, lanes: Iterable[LaneToken], *, action: str) -> bool:
        """Enqueue lanes of a job of this action; return False if Redis does not answer.

        After the first failure no other lane is tried, since each could take as long. The sweeper
        enqueues all of them again.
        """
        queue, actor = (OPT_OUTS, ADVANCE_URGENT) if is_urgent(action) else (BULK, ADVANCE)
        for lane in lanes:
            if not await self._send(queue, actor, lane):
                return False
        return True

    async def queued_messages(self) -> QueuedMessages | None:
        """Return the messages in Redis, waiting or being worked on; None if it does not answer."""
        return await self._request(self._read_messages)

    def _read_messages(self) -> QueuedMessages:
        client: Any = self._broker.client
        found: set[tuple[int, ...]] = set()
        for queue in (OPT_OUTS, STARTS, BULK):
            messages = f"{self._broker.namespace}:{queue}.msgs"
            if client.hlen(messages) > MAX_SCANNED_MESSAGES:
                return QueuedMessages(None)
            found.update(tuple(Message.decode(text).args) for text in client.hvals(messages))
        return QueuedMessages(frozenset(found))

    async def _send(self, queue: str, actor: str, args: tuple[Any, ...]) -> bool:
        message: Message[Any] = Message(
            queue_name=queue, actor_name=actor, args=args, kwargs={}, options={}
        )
        return await self._request(lambda: self._broker.enqueue(message)) is not None

    async def _request(self, request: Callable[[], T]) -> T | None:
        """Return Redis's answer; None if there is none, or was none a moment ago."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._request_in_thread, request)

    def _request_in_thread(self, request: Callable[[], T]) -> T | None:
        requested_at = time.monotonic()
        if requested_at < self._paused_until:
            return None
        try:
            answer = request()
        except (redis.RedisError, OSError) as error:
            self.outage.record_failure(error, requested_at)
            self._paused_until = time.monotonic() + PAUSE_AFTER_ERROR_SECONDS
            return None
        self.outage.record_success(requested_at)
        return answer
