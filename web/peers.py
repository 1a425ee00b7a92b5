"""The network address that a request comes from, and a limit of its failed authentications.

The address is personal data: it is kept in memory for a while, and never logged.
"""

import ipaddress
import math
import time
from collections.abc import Callable

from starlette.types import Scope

from runtime import events, logs
from web.problems import TOO_MANY_REQUESTS, Problem
from web.rate_limit import RateLimiter

log = logs.get_logger()

MAX_PEERS = 10_000
"""How many peers are remembered. The one that failed least recently is forgotten first."""

REPORT_SECONDS = 60.0
"""At most one log line about limited peers is written in this time."""

_IPV6_NETWORK_BITS = 64


def get_peer(scope: Scope, proxies: int) -> str:
    """Return the IPv4 address that the request comes from, or the /64 network of an IPv6 address.

    One customer of a provider has such a network. Empty if the address is unknown. Each trusted
    proxy has appended its client to X-Forwarded-For; what precedes that is the client's own word.
    """
    client = scope.get("client")
    if proxies:
        forwarded = b",".join(v for name, v in scope["headers"] if name == b"x-forwarded-for")
        clients = forwarded.decode("latin-1").split(",")
        if len(clients) >= proxies and (named := _parse_network(clients[-proxies])):
            return named
    return _parse_network(client[0] if client else "")


def _parse_network(text: str) -> str:
    """Return the network of an address with or without a port; empty if it is no address."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_NETWORK_BITS), strict=False))


class FailedAuthLimiter:
    """How many wrong keys, signatures and links each peer may send to this process per minute.

    Beyond that they are rejected without asking Postgres. Valid ones are always accepted: many
    callers may share an address, and an opt-out must not fail for another's mistake.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = RateLimiter(per_minute / 60, clock, capacity=per_minute, max_keys=MAX_PEERS)
        self._retry_seconds = math.ceil(60 / per_minute)
        self._clock = clock
        self._unreported = 0
        self._reported_at = -math.inf

    def is_limited(self, peer: str) -> bool:
        """Return whether one more failure of the peer must not reach Postgres."""
        return self._limiter.seconds_left(peer) > 0

    def record_failure(self, peer: str) -> None:
        """Count a failure of the peer."""
        self._limiter.take_token(peer)
        if self.is_limited(peer):
            self._unreported += 1
            now = self._clock()
            if now - self._reported_at >= REPORT_SECONDS:
                log.warning(events.PEER_LIMITED, count=self._unreported)
                self._unreported, self._reported_at = 0, now

    def problem(self) -> Problem:
        """Build the response to a failure of a limited peer."""
        return Problem(
            TOO_MANY_REQUESTS,
            "Too many wrong keys, signatures or links came from this network address. Nothing was"
            " done. Send a valid one; it is accepted.",
            headers={"Retry-After": str(self._retry_seconds)},
        )
