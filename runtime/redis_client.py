"""The Redis client, with timeouts that suit a queue."""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.tcp_keepalive import keepalive_options

REDIS_TIMEOUT_SECONDS = 5
"""How long to wait for an answer. No command blocks in Redis, so a later one will not come."""


def redis_client_options(url: str) -> dict[str, Any]:
    """Return arguments for `redis.Redis.from_url` and its asyncio counterpart.

    They allow no retries: a message can be stored although its reply was lost, and a retry would
    enqueue it twice.
    """
    options: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    scheme = urlsplit(url).scheme
    if scheme != "unix":
        # With redis-py's defaults a dead server is noticed only after 45 seconds.
        options |= {
            "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "socket_keepalive_options": keepalive_options(),
        }
    if scheme == "rediss":
        # Encrypted but not verified, since hosted Redis uses self-signed certificates.
        options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return options


def redis_client(url: str) -> redis.Redis:
    """Make a client for the server at `url`; it connects when it is first used."""
    return redis.Redis.from_url(url, **redis_client_options(url))
