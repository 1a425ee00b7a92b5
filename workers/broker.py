"""The Redis broker, for workers and for processes that only enqueue."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed

from runtime.outages import Outage
from runtime.redis_client import redis_client
from runtime.settings import Settings
from workers.queue_listener import QueueListener, publish_on_enqueue

HEARTBEAT_TIMEOUT_MS = 15_000
"""After this long without a sign of life, another worker takes a process's messages back."""

MAINTENANCE_CHANCE = 100_000
"""Of a million commands to Redis, how many look for messages of lost workers. What comes back is
an old ring, which counts for nothing; this only keeps Redis tidy."""


def make_broker(
    settings: Settings,
    middleware: list[dramatiq.Middleware],
    outage: Outage,
    queue_listener: QueueListener,
) -> RedisBroker:
    """Make a worker's broker with a Redis client of its own.

    It reports failures and answers to `outage`, and its consumers wait for `queue_listener`.
    """
    assert settings.redis_url is not None
    options = _options(settings.redis_url, settings.queue_namespace)
    broker = _WorkerBroker(middleware=middleware, **options)  # type: ignore[no-untyped-call]
    broker.outage, broker.queue_listener = outage, queue_listener
    publish_on_enqueue(broker)
    outage.on_recovery(lambda: drop_idle_connections(broker))
    return broker


def make_client_broker(redis_url: str, namespace: str) -> RedisBroker:
    """Make a broker that sends and never receives."""
    broker = RedisBroker(middleware=[], **_options(redis_url, namespace))  # type: ignore[no-untyped-call]
    publish_on_enqueue(broker)
    return broker


def drop_idle_connections(broker: RedisBroker) -> None:
    """Drop the idle connections to a Redis that was away.

    One from before may be broken without knowing it, and would fail its next user.
    """
    broker.client.connection_pool.disconnect(inuse_connections=False)


def _options(redis_url: str, namespace: str) -> dict[str, Any]:
    return {
        "client": redis_client(redis_url),
        "namespace": namespace,
        "heartbeat_timeout": HEARTBEAT_TIMEOUT_MS,
        "maintenance_chance": MAINTENANCE_CHANCE,
    }


class _WorkerBroker(RedisBroker):
    """dramatiq's own, for which Redis being away is nothing unexpected.

    dramatiq takes a time-out for a fault of its own and writes a traceback. Here whatever keeps
    Redis from answering is an outage: a broken connection, after which a new consumer is made.
    """

    outage: Outage
    queue_listener: QueueListener

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return _Consumer

    def get_declared_delay_queues(self) -> set[str]:
        """Return no queues: Sluice sends no delayed messages, and looking for them was half of all
        polls.
        """
        return set()

    def _dispatch(self, command: str) -> Callable[..., Any]:
        send = super()._dispatch(command)  # type: ignore[no-untyped-call]

        def call(*arguments: Any) -> Any:
            requested_at = time.monotonic()
            try:
                answer = send(*arguments)
            except (redis.RedisError, OSError) as error:
                self.outage.record_failure(error, requested_at)
                raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
            self.outage.record_success(requested_at)
            return answer

        return call


class _Consumer(_RedisConsumer):
    """Waits to be woken, and acknowledges a message once, if Redis answers.

    dramatiq's own blocks a thread until Redis has taken an acknowledgement. A worker that cannot
    return its messages then ends in the middle of its shutdown. What Redis keeps instead are old
    messages, which are dropped when they are delivered again.
    """

    def __init__(self, broker: _WorkerBroker, queue: str, prefetch: int, timeout: int) -> None:
        del timeout
        # dramatiq's own sleep, which nothing ends, is left out.
        super().__init__(broker, queue, prefetch, 0)  # type: ignore[no-untyped-call]
        self._queue_listener = broker.queue_listener
        self._wake_event = broker.queue_listener.wake_event(queue)

    def __next__(self) -> Any:
        self._wake_event.clear()
        message = super().__next__()  # type: ignore[no-untyped-call]
        if message is None:
            self._queue_listener.wait(self._wake_event)
        return message

    def ack(self, message: Any) -> None:
        with suppress(ConnectionClosed):
            super().ack(message)  # type: ignore[no-untyped-call]
        self._resume_fetching()

    def nack(self, message: Any) -> None:
        with suppress(ConnectionClosed):
            super().nack(message)  # type: ignore[no-untyped-call]
        self._resume_fetching()

    def requeue(self, messages: Any) -> None:
        with suppress(ConnectionClosed):
            super().requeue(messages)  # type: ignore[no-untyped-call]

    def _resume_fetching(self) -> None:
        """Wake the consumer: with as many messages as allowed, it had stopped fetching."""
        self._wake_event.set()
