"""Who a request comes from, by its network address; and how often a peer was wrong.

The address is personal data: it is kept in memory for a while, and is in no log line.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Scope

from runtime import events, logs
from web.problems import TOO_MANY_REQUESTS, Problem

log = logs.get_logger()

MAX_PEERS = 10_000
"""Of so many peers it is known how often they were wrong; of those that were so longest ago it is
forgotten first."""

REPORT_SECONDS = 60.0
"""The log tells of peers that are limited once in this time."""

_NETWORK_BITS = 64
_UNKNOWN_PEER = ""


def get_peer(scope: Scope, proxies: int) -> str:
    """Return the network that the request comes from: an address, and of IPv6 the /64 around it,
    which one customer of a provider has. Empty where it is not known.

    Each of the proxies before this process has put behind X-Forwarded-For whom it was asked by.
    What stands before that is the caller's own word.
    """
    client = scope.get("client")
    host = client[0] if client else ""
    if proxies:
        forwarded = b",".join(v for name, v in scope["headers"] if name == b"x-forwarded-for")
        hops = forwarded.decode("latin-1").split(",")
        if len(hops) >= proxies and (named := _parse_network(hops[-proxies])):
            return named
    return _parse_network(host) or _UNKNOWN_PEER


def _parse_network(text: str) -> str:
    """Return the network of an address with or without a port; empty if it is not an address."""
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
    return str(ipaddress.ip_network((int(address), _NETWORK_BITS), strict=False))


class FailedAuthLimiter:
    """How many wrong keys, signatures and links each peer may send to this process a minute.

    Beyond that they are refused without asking Postgres. What is right is let through all the same:
    behind one address there are many callers, and an opt-out is never refused for another's fault.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._capacity = float(per_minute)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._unreported = 0
        self._reported_at = -math.inf

    def is_limited(self, peer: str) -> bool:
        """Tell whether one more from the peer is to be refused without asking Postgres."""
        return self._tokens_left(peer) < 1

    def record_failure(self, peer: str) -> None:
        """Note that the peer sent something wrong."""
        left = max(0.0, self._tokens_left(peer) - 1)
        self._buckets[peer] = (left, self._clock())
        self._buckets.move_to_end(peer)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        if left < 1:
            self._unreported += 1
            self._report()

    def problem(self) -> Problem:
        """Return the answer to what is wrong, of a peer that sent too much of it."""
        return Problem(
            TOO_MANY_REQUESTS,
            "Too many wrong keys, signatures or links came from this network address. Nothing was"
            " done. Send the right one; it is accepted within some seconds.",
            headers={"Retry-After": str(math.ceil(1 / self._per_second))},
        )

    def _tokens_left(self, peer: str) -> float:
        left, at = self._buckets.get(peer, (self._capacity, 0.0))
        return min(self._capacity, left + (self._clock() - at) * self._per_second)

    def _report(self) -> None:
        now = self._clock()
        if now - self._reported_at >= REPORT_SECONDS:
            log.warning(events.PEER_LIMITED, count=self._unreported)
            self._unreported, self._reported_at = 0, now
