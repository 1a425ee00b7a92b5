"""Limits of connections: how many a process has, and how long each may keep it waiting.

uvicorn closes a connection that is idle after a response, and no other. One that sends nothing, an
endless head, or does not read its response would hold one of the files that the process may open.
"""

import asyncio
import math
import operator
import resource
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

from runtime import events, logs
from runtime.event_keys import Event
from runtime.settings import Settings
from web import problems
from web.problems import Problem, encode_response

if TYPE_CHECKING:
    from web.server_protocol import Connection

log = logs.get_logger()

CHECK_SECONDS = 0.5
REPORT_SECONDS = 10.0
"""At most one log line per event and reason is written in this time."""

NEW_CONNECTION_SECONDS = 1.0
"""How long a new connection is not closed to make room, so that it can send a request."""

SLOW_BYTES_PER_SECOND = 64 * 1024
"""A body or response that moves faster is not interrupted to make room."""

MAX_UNPARSED_BYTES = 32 * 1024 * 1024
"""How much all connections together may send ahead. Beyond that, one that sends more is closed."""

MAX_STARTS_PER_ITERATION = 4
"""How many requests start in one iteration of the event loop, so that others are served too."""

_FULL_STATE_SECONDS = 0.1

_DEFAULT_MAX_CONNECTIONS = 2_000
_MAX_FILES = 65_536
_RESERVED_FILES = 64
"""Files for other things: connections to Postgres, the log, uploads."""

_TIMEOUT_RESPONSE = encode_response(
    Problem(
        problems.REQUEST_TIMEOUT,
        "The request line and the headers did not arrive in time. Nothing was done. Send the"
        " request again.",
    )
)
_BUSY_RESPONSE = encode_response(
    Problem(
        problems.UNAVAILABLE,
        "Too many connections are open. Nothing was done. Use fewer connections, or try again.",
        headers=problems.RETRY_HEADERS,
    )
)


class ConnectionLimits(NamedTuple):
    """What each process allows."""

    header_timeout_seconds: float
    slow_client_seconds: float
    max_total: int
    max_per_peer: int | None

    @classmethod
    def from_settings(cls, settings: Settings) -> "ConnectionLimits":
        """Take them from the settings and from the limit of open files, which this raises."""
        room = max(1, _raise_file_limit() - _RESERVED_FILES - settings.web_pool_size)
        return cls(
            settings.header_timeout_seconds,
            settings.slow_client_seconds,
            min(settings.max_connections or _DEFAULT_MAX_CONNECTIONS, room),
            # Behind a proxy all connections come from its address.
            None if settings.proxy_count else settings.max_connections_per_peer,
        )


def _raise_file_limit() -> int:
    """Raise the limit of open files as far as this user may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return _MAX_FILES if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # The system may have a lower limit than the one that it reports.
        return soft
    return allowed


class ConnectionMonitor:
    """Closes connections of one process that wait for too long, or are too many."""

    def __init__(
        self, state: ServerState, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits
    ) -> None:
        self._all: Any = state.connections
        self._loop = loop
        self._limits = limits
        self._open: set[Connection] = set()
        # In the order in which they became idle. Some may have a request under way by now.
        self._idle: dict[Connection, None] = {}
        self._peer_counts: Counter[str] = Counter()
        self._unreported: Counter[tuple[Event, str]] = Counter()
        self._reported_at: dict[tuple[Event, str], float] = {}
        self._full_until = 0.0
        self._unparsed = 0
        self._to_start: deque[Callable[[], None]] = deque()
        loop.call_later(CHECK_SECONDS, self._check)

    def admit(self, connection: "Connection") -> None:
        """Accept a new connection, or reject it."""
        self._open.add(connection)
        self._idle[connection] = None
        self._peer_counts[connection.peer] += 1
        max_per_peer = self._limits.max_per_peer
        if max_per_peer is not None and self._peer_counts[connection.peer] > max_per_peer:
            self._reject(connection, "peer")
        elif len(self._open) > self._limits.max_total and not self._make_room():
            self._reject(connection, "total")

    def remove(self, connection: "Connection") -> None:
        """Forget a connection that was lost."""
        self._discard(connection)
        self._peer_counts[connection.peer] -= 1
        if not self._peer_counts[connection.peer]:
            del self._peer_counts[connection.peer]

    def mark_idle(self, connection: "Connection") -> None:
        """Note that a connection has sent a response."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def start(self, request: Callable[[], None]) -> None:
        """Start a request in its turn."""
        if not self._to_start:
            self._start_later()
        self._to_start.append(request)

    def _start_some(self) -> None:
        for _ in range(min(MAX_STARTS_PER_ITERATION, len(self._to_start))):
            self._to_start.popleft()()
        if self._to_start:
            self._start_later()

    def _start_later(self) -> None:
        # In an empty context: that of the first request must not reach the others.
        self._loop.call_soon(self._start_some, context=Context())

    def count_unparsed(self, connection: "Connection", more: int) -> None:
        """Count what a connection keeps unparsed; close it if all together keep too much."""
        self._unparsed += more
        if more > 0 and self._unparsed > MAX_UNPARSED_BYTES and connection in self._open:
            self._loop.call_soon(self._abort, connection, "ahead")

    def _discard(self, connection: "Connection") -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _make_room(self) -> bool:
        """Close the connection that is idle for longest, or else the slowest; False if none is."""
        now = self._loop.time()
        if now < self._full_until:
            return False
        longest = self._find_longest_idle(now)
        if longest is not None:
            self._close(longest, "room")
            return True
        paces = ((each.bytes_per_second(now), each) for each in self._open)
        pace, slowest = min(paces, key=operator.itemgetter(0))
        if pace < SLOW_BYTES_PER_SECOND:
            self._abort(slowest, "room")
            return True
        self._full_until = now + _FULL_STATE_SECONDS
        return False

    def _find_longest_idle(self, now: float) -> "Connection | None":
        """Pass over new connections, and drop those with a request: they are noted again later."""
        for each in list(self._idle):
            if not each.is_idle:
                del self._idle[each]
            elif each.has_responded or now - each.idle_since >= NEW_CONNECTION_SECONDS:
                return each
        return None

    def _reject(self, connection: "Connection", why: str) -> None:
        self._unreported[events.CONNECTION_REFUSED, why] += 1
        self._discard(connection)
        connection.transport.write(_BUSY_RESPONSE)
        connection.transport.close()

    def _close(self, connection: "Connection", why: str) -> None:
        self._count_closed(connection, why)
        connection.transport.close()

    def _abort(self, connection: "Connection", why: str) -> None:
        """Close it without waiting for its client to read."""
        self._count_closed(connection, why)
        connection.transport.abort()

    def _count_closed(self, connection: "Connection", why: str) -> None:
        self._unreported[events.CONNECTION_CLOSED, why] += 1
        self._discard(connection)

    def _check(self) -> None:
        now = self._loop.time()
        for each in list(self._all):
            is_late = now - each.idle_since >= self._limits.header_timeout_seconds
            if each.is_unread(now, self._limits.slow_client_seconds):
                self._abort(each, "unread")
            elif each.is_idle and is_late and not each.transport.is_closing():
                if each.is_in_head:
                    each.transport.write(_TIMEOUT_RESPONSE)
                self._close(each, "head" if each.has_received_data else "silent")
        self._report(now)
        self._loop.call_later(CHECK_SECONDS, self._check)

    def _report(self, now: float) -> None:
        for (event, why), number in list(self._unreported.items()):
            if now < self._reported_at.get((event, why), -math.inf) + REPORT_SECONDS:
                continue
            self._reported_at[event, why] = now
            del self._unreported[event, why]
            log.warning(event, reason=why, count=number, open_connections=len(self._open))


_monitors: WeakKeyDictionary[ServerState, ConnectionMonitor] = WeakKeyDictionary()


def get_monitor(
    state: ServerState, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits
) -> ConnectionMonitor:
    """Return the server's monitor, made by its first connection."""
    if state not in _monitors:
        _monitors[state] = ConnectionMonitor(state, loop, limits)
    return _monitors[state]
