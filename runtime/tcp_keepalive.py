"""How soon a vanished peer is noticed (docs/decisions/0012-dead-peers.md).

A host that lost its power or its network closes no connection. So this side must ask.
"""

import socket

IDLE_SECONDS = 5
"""How long a connection is silent before the first probe."""

INTERVAL_SECONDS = 2
"""The time between two probes."""

PROBES = 3
"""How many unanswered probes end the connection."""

USER_TIMEOUT_SECONDS = 10
"""How long sent data may stay unconfirmed. Without such data, a dead peer is noticed after 11
seconds: 5, and 3 times 2."""

_LEVEL_TCP = {
    # Linux and macOS have different names for the first.
    "TCP_KEEPIDLE": IDLE_SECONDS,
    "TCP_KEEPALIVE": IDLE_SECONDS,
    "TCP_KEEPINTVL": INTERVAL_SECONDS,
    "TCP_KEEPCNT": PROBES,
    # Linux only; no probes are sent while data is unconfirmed.
    "TCP_USER_TIMEOUT": USER_TIMEOUT_SECONDS * 1000,
}


def keepalive_options() -> dict[int, int]:
    """Return the IPPROTO_TCP options that this platform has; SO_KEEPALIVE is set separately."""
    return {
        getattr(socket, name): value for name, value in _LEVEL_TCP.items() if hasattr(socket, name)
    }


def enable_keepalive(connected: socket.socket) -> None:
    """Have the kernel end the connection soon after its peer vanished.

    A socket in the file system has its peer on the same machine, and is left as it is.
    """
    if connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in keepalive_options().items():
        connected.setsockopt(socket.IPPROTO_TCP, option, value)
