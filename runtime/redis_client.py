"""The Redis client."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def redis_client(url: str) -> redis.Redis:
    """A client whose time-outs suit the broker."""
    options = {"ssl_cert_reqs": "none"} if url.startswith("rediss://") else {}
    return redis.Redis.from_url(
        url, socket_timeout=30, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0), **options
    )
