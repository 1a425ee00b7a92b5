"""The Redis broker, for workers and for those who only ring."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed

from runtime.redis_client import redis_client
from runtime.settings import Settings
from workers.outages import Outage

HEARTBEAT_TIMEOUT_MS = 15_000
"""After this long without a sign of life, another worker takes a process's messages back."""

MAINTENANCE_CHANCE = 100_000
"""Of a million commands to Redis, how many look for messages of lost workers. What comes back is
an old ring, which counts for nothing; this only keeps Redis tidy."""


def make_broker(
    settings: Settings, middleware: list[dramatiq.Middleware], outage: Outage
) -> RedisBroker:
    """A worker's broker, with a Redis client of its own; what it meets is told to `outage`."""
    assert settings.redis_url is not None
    client = redis_client(settings.redis_url)
    broker = _WorkersBroker(client=client, middleware=middleware, **_options(settings))  # type: ignore[no-untyped-call]
    broker.outage = outage
    return broker


def make_client_broker(settings: Settings) -> RedisBroker:
    """A broker that sends and never receives, and does not wait long for an answer."""
    assert settings.redis_url is not None
    client = redis_client(settings.redis_url, waits_for_messages=False)
    return RedisBroker(client=client, middleware=[], **_options(settings))  # type: ignore[no-untyped-call]


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "namespace": settings.queue_namespace,
        "heartbeat_timeout": HEARTBEAT_TIMEOUT_MS,
        "maintenance_chance": MAINTENANCE_CHANCE,
    }


class _WorkersBroker(RedisBroker):
    outage: Outage

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        return _Consumer


class _Consumer(_RedisConsumer):
    """dramatiq's own, for which Redis being away is nothing unexpected.

    dramatiq takes a time-out for a fault of its own and writes a traceback, waits with a thread
    until Redis has taken an acknowledgement, and ends a worker in the middle of its shutdown when
    messages cannot be handed back. Here all of it is an outage. What Redis still has then is an
    old ring, which counts for nothing when it is delivered again, so none of it is tried again.
    """

    def __next__(self) -> Any:
        return self._asked(super().__next__)

    def ack(self, message: Any) -> None:
        self._told(super().ack, message)

    def nack(self, message: Any) -> None:
        self._told(super().nack, message)

    def requeue(self, messages: Any) -> None:
        self._told(super().requeue, messages)

    def _asked(self, command: Callable[..., Any], *arguments: Any) -> Any:
        """What Redis says; raises ConnectionClosed, after which dramatiq makes a new consumer."""
        outage: Outage = self.broker.outage
        try:
            answer = command(*arguments)
        except (ConnectionClosed, redis.RedisError, OSError) as error:
            outage.fails(error.args[0] if isinstance(error, ConnectionClosed) else error)
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        outage.answers()
        return answer

    def _told(self, command: Callable[..., Any], *arguments: Any) -> None:
        """Tell Redis, if it listens."""
        with suppress(ConnectionClosed):
            self._asked(command, *arguments)
