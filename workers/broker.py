"""The Redis brokers: one that receives messages in worker processes, one that only enqueues.

Sluice changes dramatiq here, in `workers/middleware/event_loop.py` and in `workers/shutdown.py`.
Two changes use what dramatiq does not document: `RedisBroker.scripts`, and the set of signals in
`workers/shutdown.py`. `tests/integration/test_dramatiq.py` fails when the library changes one
of them.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import dramatiq
import redis
from dramatiq import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

from runtime.outages import Outage
from runtime.redis_client import redis_client
from runtime.settings import Settings
from workers.queue_listener import CHANNEL_SUFFIX, QueueListener

HEARTBEAT_TIMEOUT_MS = 15_000
"""After this time without a command, another worker takes over a process's messages."""

MAINTENANCE_CHANCE = 100_000
"""How many of a million commands look for messages of lost workers. Such a message is outdated and
will be dropped, so this only keeps Redis tidy."""

_PUBLISH_SCRIPT = f"""
if ARGV[1] == "enqueue" or ARGV[1] == "requeue" then
    redis.pcall("publish", KEYS[1] .. "{CHANNEL_SUFFIX}", ARGV[3])
end
""".encode()
"""Runs before dramatiq's script, which gets the namespace as key, and command, time and queue as
arguments. A script is atomic, so the message is there before a listener can fetch it. `pcall`
ignores errors: a Redis user may not be allowed to publish, and a notification is only a hint."""


def make_client_broker(redis_url: str, namespace: str) -> RedisBroker:
    """Make a broker that enqueues and never receives."""
    return _PublishingBroker(redis_url, namespace, [])


def drop_idle_connections(broker: RedisBroker) -> None:
    """Drop the idle connections to a Redis that was down.

    An old one may be broken without knowing it, and would fail its next user.
    """
    broker.client.connection_pool.disconnect(inuse_connections=False)


class _PublishingBroker(RedisBroker):
    """Publishes the queue's name with each message, without a further round trip."""

    def __init__(
        self, redis_url: str, namespace: str, middleware: list[dramatiq.Middleware]
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            client=redis_client(redis_url),
            namespace=namespace,
            middleware=middleware,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
            maintenance_chance=MAINTENANCE_CHANCE,
        )
        script = self.scripts["dispatch"].script
        assert isinstance(script, bytes)
        self.scripts["dispatch"] = self.client.register_script(_PUBLISH_SCRIPT + script)


class WorkerBroker(_PublishingBroker):
    """The broker of a worker process, which expects Redis to be down at times.

    It tells `outage` whether each call of Redis succeeded, and its consumers wait for
    `queue_listener`. dramatiq would log a traceback for a timeout. So every error of Redis is
    raised as ConnectionClosed, after which dramatiq makes a new consumer.
    """

    def __init__(
        self,
        settings: Settings,
        middleware: list[dramatiq.Middleware],
        outage: Outage,
        queue_listener: QueueListener,
    ) -> None:
        assert settings.redis_url is not None
        super().__init__(settings.redis_url, settings.queue_namespace, middleware)
        self._queue_listener = queue_listener
        self.scripts = {
            name: _report_outages(script, outage) for name, script in self.scripts.items()
        }
        outage.on_recovery(lambda: drop_idle_connections(self))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Return a consumer that waits for the queue listener when the queue is empty."""
        del timeout
        # With a timeout, dramatiq's consumer would sleep, and nothing could wake it.
        consumer = super().consume(queue_name, prefetch, timeout=0)
        return _Consumer(consumer, queue_name, self._queue_listener)

    def get_declared_delay_queues(self) -> set[str]:
        """Return no queues: Sluice sends no delayed messages, and polling for them was half of all
        polls.
        """
        return set()


def _report_outages(script: Callable[..., Any], outage: Outage) -> Callable[..., Any]:
    """Wrap a script of dramatiq's: tell `outage` how it went; raise ConnectionClosed on errors."""

    def run(*arguments: Any, **keywords: Any) -> Any:
        requested_at = time.monotonic()
        try:
            answer = script(*arguments, **keywords)
        except (redis.RedisError, OSError) as error:
            outage.record_failure(error, requested_at)
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        outage.record_success(requested_at)
        return answer

    return run


class _Consumer(dramatiq.Consumer):
    """Waits for the queue listener, and acknowledges a message only if Redis answers.

    dramatiq repeats an acknowledgment until Redis answers, which blocks a worker thread. A process
    whose Redis is down would not end in time. Unacknowledged messages stay in Redis; when they are
    delivered again, they are outdated and dropped.
    """

    def __init__(
        self, consumer: dramatiq.Consumer, queue: str, queue_listener: QueueListener
    ) -> None:
        self._consumer = consumer
        self._queue_listener = queue_listener
        self._wake_event = queue_listener.wake_event(queue)

    def __next__(self) -> MessageProxy | None:
        self._wake_event.clear()
        message = next(self._consumer)
        if message is None:
            self._queue_listener.wait(self._wake_event)
        return message

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge the message, and fetch again: the consumer may have been full."""
        with suppress(ConnectionClosed):
            self._consumer.ack(message)
        self._wake_event.set()

    def nack(self, message: MessageProxy) -> None:
        """Reject the message, and fetch again: the consumer may have been full."""
        with suppress(ConnectionClosed):
            self._consumer.nack(message)
        self._wake_event.set()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Return messages that were not started to Redis."""
        with suppress(ConnectionClosed):
            self._consumer.requeue(messages)
