"""The Redis broker, for workers and for those who only ring."""

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from runtime.redis_client import redis_client
from runtime.settings import Settings

HEARTBEAT_TIMEOUT_MS = 15_000
"""After this long without a sign of life, another worker takes a process's messages back."""

MAINTENANCE_CHANCE = 100_000
"""Of a million commands to Redis, how many look for messages of lost workers. What comes back is
an old ring, which counts for nothing; this only keeps Redis tidy."""


def make_broker(settings: Settings, middleware: list[dramatiq.Middleware]) -> RedisBroker:
    """A broker with a Redis client of its own, whose time-outs suit blocking reads."""
    assert settings.redis_url is not None
    return _broker(settings, redis_client(settings.redis_url), middleware)


def make_client_broker(settings: Settings) -> RedisBroker:
    """A broker that sends and never receives, and does not wait long for an answer."""
    assert settings.redis_url is not None
    return _broker(settings, redis_client(settings.redis_url, waits_for_messages=False), [])


def _broker(
    settings: Settings, client: redis.Redis, middleware: list[dramatiq.Middleware]
) -> RedisBroker:
    return RedisBroker(  # type: ignore[no-untyped-call]
        client=client,
        middleware=middleware,
        namespace=settings.queue_namespace,
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=MAINTENANCE_CHANCE,
    )
