"""How long a connection may keep a process waiting, and how many there may be.

The server itself closes a connection that is idle after an answer, and no other: one that says
nothing, or begins a head and does not end it, or does not read its answer, would stay for as long
as its peer likes, and take one of the files that the process may have open.
"""

import asyncio
import math
import operator
import resource
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from runtime import events, logs
from runtime.events import Event
from runtime.settings import Settings
from web.header_limit import HeaderLimitProtocol, encode_response
from web.middleware.body_limit import MIN_BYTES_PER_SECOND
from web.problems import REQUEST_TIMEOUT, RETRY_SECONDS, UNAVAILABLE, Problem

log = logs.get_logger()

CHECK_SECONDS = 0.5
REPORT_SECONDS = 10.0
"""For each reason that connections are closed there is at most one line in so long."""

NEW_CONNECTION_SECONDS = 1.0
"""A connection is not closed to make room for another before it had time to ask something."""

SLOW_BYTES_PER_SECOND = 64 * 1024
"""A body that comes faster, and an answer that is read faster, is not ended to make room."""

PARSE_BATCH_BYTES = 1024
"""So much is parsed at a time of what was read: as many requests as that holds may wait behind one
that is under way, however much of them is sent without waiting for answers."""

MAX_UNPARSED_BYTES = 32 * 1024 * 1024
"""So much of what was sent ahead all connections together may keep. Beyond it the one that sends
more is ended."""

PARSE_SLICE_SECONDS = 0.002
"""For so long what came on one connection is parsed before others have their turn. A body in very
small chunks takes a hundred times as long as others of its size."""

MAX_STARTS_PER_ITERATION = 4
"""At most this many requests begin in a turn of the event loop, so that those under way do not wait
for all that came together."""

_FULL_STATE_SECONDS = 0.1

_DEFAULT_MAX_CONNECTIONS = 2_000
_MAX_FILES = 65_536
_RESERVED_FILES = 64
"""What a process has open beside its connections: those to Postgres, its log, files of forms."""


class ConnectionLimits(NamedTuple):
    """What each process allows."""

    header_timeout_seconds: float
    slow_client_seconds: float
    max_total: int
    max_per_peer: int | None

    @classmethod
    def from_settings(cls, settings: Settings) -> "ConnectionLimits":
        """Return the settings' limits, with no more connections than open files allow.

        The limit of open files is raised as far as this user may.
        """
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
        # The system may have a limit of its own below the one that it names.
        return soft
    return allowed


class _ReadFlowControl(FlowControl):
    """Reads on only when the connection has room. The server's own does so at each answer, and
    whenever a body is asked for.
    """

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Resume reading from the socket; called by the server."""
        if self._connection.has_room:
            super().resume_reading()


class Connection(HeaderLimitProtocol):
    """The server's protocol for a connection, of which it notes since when it waits for what.

    What is read behind a request that has to wait is kept unparsed, and no more is read: at most
    what one read from the socket gives.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unparsed = b""
        self._counted_unparsed = 0
        self._parse_later: asyncio.Handle | None = None
        self._current_cycle: RequestResponseCycle | None = None
        self._monitor = _get_monitor(self.server_state, self.loop, limits)
        self._unsent: tuple[float, int] | None = None
        self._began = self.loop.time()
        self._body_bytes = 0
        self.idle_since = self.loop.time()
        self.has_received_data = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way on it: its head has not come to its end."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    @property
    def has_responded(self) -> bool:
        """Whether it had an answer already."""
        return self.cycle is not None

    @property
    def is_in_head(self) -> bool:
        """Whether a head has begun and not ended."""
        return self._in_head

    @property
    def peer(self) -> str:
        """From where it comes."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the limits of a new connection; called by the transport."""
        super().connection_made(transport)
        self.flow = _ReadFlowControl(self, transport)
        self._monitor.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; called by the transport."""
        self.pipeline.clear()
        self._keep_unparsed(b"")
        if self._current_cycle is not None and not self._current_cycle.response_complete:
            # The server tells only the last request that was read.
            self._current_cycle.disconnected = True
            self._current_cycle.message_event.set()
        super().connection_lost(exc)
        self._monitor.remove(self)

    @property
    def has_room(self) -> bool:
        """Whether more may be read: all was parsed, and little of the last body waits to be taken.

        Behind the last request all is read, and dropped: where a connection ends with something
        unread, its peer may lose what was answered.
        """
        if self.transport.is_closing():
            return False
        if self._is_last:
            return True
        if self._unparsed or self.pipeline:
            return False
        return self.is_idle or len(self.cycle.body) <= HIGH_WATER_LIMIT

    @property
    def _is_done_reading(self) -> bool:
        return self._is_last or self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Count and parse what arrived; called by the transport."""
        self.has_received_data = True
        self._unparsed += data
        if self._parse_later is None:
            self._parse()

    def _parse(self) -> None:
        """Parse what was read, until there is a request that has to wait."""
        self._parse_later = None
        until = self.loop.time() + PARSE_SLICE_SECONDS
        rest = memoryview(self._unparsed)
        while rest and not self.pipeline and not self._is_done_reading:
            if self.loop.time() > until:
                self._parse_later = self.loop.call_soon(self._parse, context=Context())
                break
            super().data_received(bytes(rest[:PARSE_BATCH_BYTES]))
            rest = rest[PARSE_BATCH_BYTES:]
        self._keep_unparsed(b"" if self._is_done_reading else bytes(rest))
        if self._unparsed:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _keep_unparsed(self, rest: bytes) -> None:
        # The rest of a body, whose turn is over, is soon parsed.
        counted = len(rest) if self.pipeline else 0
        self._monitor.count_unparsed(self, counted - self._counted_unparsed)
        self._unparsed, self._counted_unparsed = rest, counted

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._current_cycle = cycle
        # Also where its peer has gone meanwhile: an opt-out that came whole is done.
        self._monitor.start(partial(super()._start_asgi_task, cycle, app))

    def on_headers_complete(self) -> None:
        """Note that the request's head is complete; called by the parser."""
        self._began = self.loop.time()
        self._body_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count a part of the body; called by the parser."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Note that the response was sent; called by the server."""
        self.idle_since = self.loop.time()
        super().on_response_complete()
        if self._parse_later is None and not self.pipeline:
            self._parse()
        self._monitor.mark_idle(self)

    def resume_writing(self) -> None:
        """Note that the peer reads again; called by the transport."""
        self._unsent = None
        super().resume_writing()

    def bytes_per_second(self, now: float) -> float:
        """Return the bytes a second that the peer sends of a body, or reads of a response.

        Infinite if nothing is waited for, or for too short a time to tell.
        """
        if self.pipeline:
            # It asks for more before it has its answers.
            return 0.0
        if self._unsent:
            since, at_first = self._unsent
            moved = at_first - self.transport.get_write_buffer_size()
        elif self._is_awaiting_body:
            since, moved = self._began, self._body_bytes
        else:
            return math.inf
        waited = now - since
        return moved / waited if waited > NEW_CONNECTION_SECONDS else math.inf

    @property
    def _is_awaiting_body(self) -> bool:
        """Whether its peer is to send more of a body, and was not told to wait with it."""
        return (
            not self.is_idle
            and self.cycle.more_body
            and not self.cycle.waiting_for_100_continue
            and not self.flow.read_paused
        )

    def is_unread(self, now: float, seconds: float) -> bool:
        """Return whether the peer has read below the minimum rate for `seconds`.

        That shows only while nothing is added: when the application has to wait, or is done.
        """
        size = self.transport.get_write_buffer_size()
        is_fixed = self.flow.write_paused or self.is_idle or self.transport.is_closing()
        if not size or not is_fixed:
            self._unsent = None
            return False
        since, at_first = self._unsent = self._unsent or (now, size)
        waited = now - since
        return waited > seconds and at_first - size < MIN_BYTES_PER_SECOND * waited


class _ConnectionMonitor:
    """Of one process: closes connections that wait for too long, or are too many."""

    def __init__(
        self, state: ServerState, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits
    ) -> None:
        self._all: Any = state.connections
        self._loop = loop
        self._limits = limits
        self._open: set[Connection] = set()
        # In the order in which they became idle. Those with a request under way may be among them.
        self._idle: dict[Connection, None] = {}
        self._peer_counts: Counter[str] = Counter()
        self._unreported: Counter[tuple[Event, str]] = Counter()
        self._reported_at: dict[tuple[Event, str], float] = {}
        self._full_until = 0.0
        self._unparsed = 0
        self._to_start: deque[Callable[[], None]] = deque()
        loop.call_later(CHECK_SECONDS, self._check)

    def admit(self, made: Connection) -> None:
        """Take a new connection, or refuse it."""
        self._open.add(made)
        self._idle[made] = None
        self._peer_counts[made.peer] += 1
        max_per_peer = self._limits.max_per_peer
        if max_per_peer is not None and self._peer_counts[made.peer] > max_per_peer:
            self._refuse(made, "peer")
        elif len(self._open) > self._limits.max_total:
            self._make_room(made)

    def remove(self, lost: Connection) -> None:
        """Count a connection no more."""
        self._discard(lost)
        self._peer_counts[lost.peer] -= 1
        if not self._peer_counts[lost.peer]:
            del self._peer_counts[lost.peer]

    def mark_idle(self, connection: Connection) -> None:
        """Note that a connection has become idle, unless another request waits on it."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def start(self, request: Callable[[], None]) -> None:
        """Begin a request, in its turn."""
        if not self._to_start:
            self._start_later()
        self._to_start.append(request)

    def _start_some(self) -> None:
        for _ in range(min(MAX_STARTS_PER_ITERATION, len(self._to_start))):
            self._to_start.popleft()()
        if self._to_start:
            self._start_later()

    def _start_later(self) -> None:
        # Without what the connection that comes first has noted of itself.
        self._loop.call_soon(self._start_some, context=Context())

    def count_unparsed(self, connection: Connection, more: int) -> None:
        """Count what a connection keeps unparsed; end it where all of them keep too much."""
        self._unparsed += more
        if more > 0 and self._unparsed > MAX_UNPARSED_BYTES and connection in self._open:
            self._loop.call_soon(self._abort, connection, "ahead")

    def _discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _make_room(self, made: Connection) -> None:
        now = self._loop.time()
        if now < self._full_until:
            self._refuse(made, "total")
            return
        longest = self._find_longest_idle(now)
        if longest is not None:
            self._close(longest, "room")
            return
        pace, slowest = min(
            ((each.bytes_per_second(now), each) for each in self._open), key=operator.itemgetter(0)
        )
        if pace < SLOW_BYTES_PER_SECOND:
            self._abort(slowest, "room")
            return
        self._full_until = now + _FULL_STATE_SECONDS
        self._refuse(made, "total")

    def _find_longest_idle(self, now: float) -> Connection | None:
        """Return the connection that has been idle longest, unless it has just been opened.

        A skipped connection with a request in progress is noted again after its response.
        """
        for each in list(self._idle):
            if not each.is_idle:
                del self._idle[each]
            elif each.has_responded or now - each.idle_since >= NEW_CONNECTION_SECONDS:
                return each
        return None

    def _refuse(self, made: Connection, why: str) -> None:
        self._unreported[events.CONNECTION_REFUSED, why] += 1
        self._discard(made)
        made.transport.write(_BUSY_RESPONSE)
        made.transport.close()

    def _close(self, connection: Connection, why: str) -> None:
        self._unreported[events.CONNECTION_CLOSED, why] += 1
        self._discard(connection)
        connection.transport.close()

    def _abort(self, connection: Connection, why: str) -> None:
        """Close it without waiting for what is not read."""
        self._unreported[events.CONNECTION_CLOSED, why] += 1
        self._discard(connection)
        connection.transport.abort()

    def _check(self) -> None:
        now = self._loop.time()
        for each in list(self._all):
            if each.is_unread(now, self._limits.slow_client_seconds):
                self._abort(each, "unread")
            elif each.is_idle and not each.transport.is_closing():
                self._close_idle(each, now)
        self._report(now)
        self._loop.call_later(CHECK_SECONDS, self._check)

    def _close_idle(self, connection: Connection, now: float) -> None:
        if now - connection.idle_since < self._limits.header_timeout_seconds:
            return
        if connection.is_in_head:
            connection.transport.write(_TIMEOUT_RESPONSE)
        self._close(connection, "head" if connection.has_received_data else "silent")

    def _report(self, now: float) -> None:
        for reason, number in list(self._unreported.items()):
            if now < self._reported_at.get(reason, -math.inf) + REPORT_SECONDS:
                continue
            self._reported_at[reason] = now
            del self._unreported[reason]
            event, why = reason
            log.warning(event, reason=why, count=number, open_connections=len(self._open))


_monitors: WeakKeyDictionary[ServerState, _ConnectionMonitor] = WeakKeyDictionary()


def _get_monitor(
    state: ServerState, loop: asyncio.AbstractEventLoop, limits: ConnectionLimits
) -> _ConnectionMonitor:
    if state not in _monitors:
        _monitors[state] = _ConnectionMonitor(state, loop, limits)
    return _monitors[state]


_TIMEOUT_RESPONSE = encode_response(
    Problem(
        REQUEST_TIMEOUT,
        "The first line and the headers of the request did not come in time; nothing was done. Send"
        " it again.",
    )
)
_BUSY_RESPONSE = encode_response(
    Problem(
        UNAVAILABLE,
        "There are too many connections at the moment; nothing was done. Use fewer, or try again.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
)
