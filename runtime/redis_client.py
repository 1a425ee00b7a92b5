"""A Redis client that suits a queue."""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.vanished_peers import tcp_options


def redis_client_options(url: str) -> dict[str, Any]:
    """Arguments for `redis.Redis.from_url` and its asyncio twin's.

    A lost reply to an enqueue may mean that it was stored, so a client that tries again by itself
    would ring twice; and the default of 5 seconds is what dramatiq's own polls may take.
    """
    options: dict[str, Any] = {
        "socket_timeout": 30,
        "retry": Retry(NoBackoff(), 0),
    }
    scheme = urlsplit(url).scheme
    if scheme != "unix":
        # By redis-py's own figures a server that vanished is noticed after 45 seconds, and a read
        # that waits for messages gives up after 30.
        options |= {
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "socket_keepalive_options": tcp_options(),
        }
    if scheme == "rediss":
        # Encrypted, not verified: hosted Redis presents certificates it has signed itself.
        options |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return options


ANSWER_SECONDS = 5
"""How long someone who rings, and does not wait for messages, waits for an answer."""


def redis_client(url: str, *, waits_for_messages: bool = True) -> redis.Redis:
    """A client for the server at `url`; it connects when it is first used."""
    options = redis_client_options(url)
    if not waits_for_messages:
        options["socket_timeout"] = ANSWER_SECONDS
    return redis.Redis.from_url(url, **options)
