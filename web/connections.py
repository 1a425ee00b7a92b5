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
from web.header_limit import HeadLimit, as_answer
from web.middleware.body_limit import LEAST_BYTES_PER_SECOND
from web.problems import RETRY_SECONDS, TOO_SLOW, UNAVAILABLE, Problem

log = logs.get()

LOOK_SECONDS = 0.5
REPORT_SECONDS = 10.0
"""For each reason that connections are closed there is at most one line in so long."""

JUST_COME_SECONDS = 1.0
"""A connection is not closed to make room for another before it had time to ask something."""

SLOW_BYTES_PER_SECOND = 64 * 1024
"""A body that comes faster, and an answer that is read faster, is not ended to make room."""

PARSED_BYTES = 1024
"""So much is parsed at a time of what was read: as many requests as that holds may wait behind one
that is under way, however much of them is sent without waiting for answers."""

MAX_UNPARSED_BYTES = 32 * 1024 * 1024
"""So much of what was sent ahead all connections together may keep. Beyond it the one that sends
more is ended."""

TURN_SECONDS = 0.002
"""For so long what came on one connection is parsed before others have their turn. A body in very
small chunks takes a hundred times as long as others of its size."""

MAX_STARTS_PER_TURN = 4
"""At most this many requests begin in a turn of the event loop, so that those under way do not wait
for all that came together."""

_FULL_SECONDS = 0.1

_MOST = 2_000
_MOST_FILES = 65_536
_OTHER_FILES = 64
"""What a process has open beside its connections: those to Postgres, its log, files of forms."""


class Bounds(NamedTuple):
    """What each process allows."""

    head_seconds: float
    slow_seconds: float
    most: int
    most_of_peer: int | None

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        """Those of the settings, and of the files that this process may have open, of which it
        takes what it can get.
        """
        room = max(1, _allow_files() - _OTHER_FILES - settings.web_pool_size)
        return cls(
            settings.head_seconds,
            settings.slow_seconds,
            min(settings.max_connections or _MOST, room),
            # Behind a proxy all connections come from its address.
            None if settings.proxies else settings.max_connections_per_peer,
        )


def _allow_files() -> int:
    """How many files may be open, after the limit was raised as far as this user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= allowed:
        return _MOST_FILES if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # The system may have a limit of its own below the one that it names.
        return soft
    return allowed


class _Flow(FlowControl):
    """Reads on only when the connection has room. The server's own does so at each answer, and
    whenever a body is asked for.
    """

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        """Called by the server."""
        if self._connection.has_room:
            super().resume_reading()


class Connection(HeadLimit):
    """The server's protocol for a connection, of which it notes since when it waits for what.

    What is read behind a request that has to wait is kept unparsed, and no more is read: at most
    what one read from the socket gives.
    """

    def __init__(self, *arguments: Any, bounds: Bounds, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unparsed = b""
        self._counted_unparsed = 0
        self._parse_later: asyncio.Handle | None = None
        self._under_way: RequestResponseCycle | None = None
        self._watch = _watch_of(self.server_state, self.loop, bounds)
        self._unsent: tuple[float, int] | None = None
        self._began = self.loop.time()
        self._body_bytes = 0
        self.idle_since = self.loop.time()
        self.has_said_something = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way on it: its head has not come to its end."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    @property
    def was_answered(self) -> bool:
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
        """Called by the transport."""
        super().connection_made(transport)
        self.flow = _Flow(self, transport)
        self._watch.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the transport."""
        self.pipeline.clear()
        self._keep_unparsed(b"")
        if self._under_way is not None and not self._under_way.response_complete:
            # The server tells only the last request that was read.
            self._under_way.disconnected = True
            self._under_way.message_event.set()
        super().connection_lost(exc)
        self._watch.forget(self)

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
    def _takes_no_more(self) -> bool:
        return self._is_last or self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self.has_said_something = True
        self._unparsed += data
        if self._parse_later is None:
            self._parse()

    def _parse(self) -> None:
        """Parse what was read, until there is a request that has to wait."""
        self._parse_later = None
        until = self.loop.time() + TURN_SECONDS
        rest = memoryview(self._unparsed)
        while rest and not self.pipeline and not self._takes_no_more:
            if self.loop.time() > until:
                self._parse_later = self.loop.call_soon(self._parse, context=Context())
                break
            super().data_received(bytes(rest[:PARSED_BYTES]))
            rest = rest[PARSED_BYTES:]
        self._keep_unparsed(b"" if self._takes_no_more else bytes(rest))
        if self._unparsed:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _keep_unparsed(self, rest: bytes) -> None:
        # The rest of a body, whose turn is over, is soon parsed.
        counted = len(rest) if self.pipeline else 0
        self._watch.count_unparsed(self, counted - self._counted_unparsed)
        self._unparsed, self._counted_unparsed = rest, counted

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._under_way = cycle
        # Also where its peer has gone meanwhile: an opt-out that came whole is done.
        self._watch.start(partial(super()._start_asgi_task, cycle, app))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._began = self.loop.time()
        self._body_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Called by the server."""
        self.idle_since = self.loop.time()
        super().on_response_complete()
        if self._parse_later is None and not self.pipeline:
            self._parse()
        self._watch.note_answered(self)

    def resume_writing(self) -> None:
        """Called by the transport."""
        self._unsent = None
        super().resume_writing()

    def pace(self, now: float) -> float:
        """How many bytes a second its peer sends of a body, or reads of an answer; without end
        where it is not waited for, or for too short a time to tell.
        """
        if self.pipeline:
            # It asks for more before it has its answers.
            return 0.0
        if self._unsent:
            since, at_first = self._unsent
            moved = at_first - self.transport.get_write_buffer_size()
        elif self._waits_for_body:
            since, moved = self._began, self._body_bytes
        else:
            return math.inf
        waited = now - since
        return moved / waited if waited > JUST_COME_SECONDS else math.inf

    @property
    def _waits_for_body(self) -> bool:
        """Whether its peer is to send more of a body, and was not told to wait with it."""
        return (
            not self.is_idle
            and self.cycle.more_body
            and not self.cycle.waiting_for_100_continue
            and not self.flow.read_paused
        )

    def is_unread(self, now: float, seconds: float) -> bool:
        """Whether its peer has taken less than the least rate of what is sent, for so long.

        That can be told only while nothing is added: when the application has to wait, or is done.
        """
        size = self.transport.get_write_buffer_size()
        is_fixed = self.flow.write_paused or self.is_idle or self.transport.is_closing()
        if not size or not is_fixed:
            self._unsent = None
            return False
        since, at_first = self._unsent = self._unsent or (now, size)
        waited = now - since
        return waited > seconds and at_first - size < LEAST_BYTES_PER_SECOND * waited


class _Watch:
    """Of one process: closes connections that wait for too long, or are too many."""

    def __init__(self, state: ServerState, loop: asyncio.AbstractEventLoop, bounds: Bounds) -> None:
        self._all: Any = state.connections
        self._loop = loop
        self._bounds = bounds
        self._open: set[Connection] = set()
        # In the order in which they became idle. Those with a request under way may be among them.
        self._idle: dict[Connection, None] = {}
        self._of_peer: Counter[str] = Counter()
        self._untold: Counter[tuple[Event, str]] = Counter()
        self._told_at: dict[tuple[Event, str], float] = {}
        self._full_until = 0.0
        self._unparsed = 0
        self._to_start: deque[Callable[[], None]] = deque()
        loop.call_later(LOOK_SECONDS, self._look)

    def admit(self, made: Connection) -> None:
        """Take a new connection, or refuse it."""
        self._open.add(made)
        self._idle[made] = None
        self._of_peer[made.peer] += 1
        most_of_peer = self._bounds.most_of_peer
        if most_of_peer is not None and self._of_peer[made.peer] > most_of_peer:
            self._refuse(made, "peer")
        elif len(self._open) > self._bounds.most:
            self._make_room(made)

    def forget(self, lost: Connection) -> None:
        """Count a connection no more."""
        self._leave(lost)
        self._of_peer[lost.peer] -= 1
        if not self._of_peer[lost.peer]:
            del self._of_peer[lost.peer]

    def note_answered(self, connection: Connection) -> None:
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
        for _ in range(min(MAX_STARTS_PER_TURN, len(self._to_start))):
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

    def _leave(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _make_room(self, made: Connection) -> None:
        now = self._loop.time()
        if now < self._full_until:
            self._refuse(made, "total")
            return
        longest = self._idle_for_longest(now)
        if longest is not None:
            self._close(longest, "room")
            return
        pace, slowest = min(
            ((each.pace(now), each) for each in self._open), key=operator.itemgetter(0)
        )
        if pace < SLOW_BYTES_PER_SECOND:
            self._abort(slowest, "room")
            return
        self._full_until = now + _FULL_SECONDS
        self._refuse(made, "total")

    def _idle_for_longest(self, now: float) -> Connection | None:
        """The one that is idle for longest, but for those that have just come. Each that is passed
        over with a request under way is noted again after its answer.
        """
        for each in list(self._idle):
            if not each.is_idle:
                del self._idle[each]
            elif each.was_answered or now - each.idle_since >= JUST_COME_SECONDS:
                return each
        return None

    def _refuse(self, made: Connection, why: str) -> None:
        self._untold[events.CONNECTION_REFUSED, why] += 1
        self._leave(made)
        made.transport.write(_BUSY)
        made.transport.close()

    def _close(self, connection: Connection, why: str) -> None:
        self._untold[events.CONNECTION_CLOSED, why] += 1
        self._leave(connection)
        connection.transport.close()

    def _abort(self, connection: Connection, why: str) -> None:
        """Close it without waiting for what is not read."""
        self._untold[events.CONNECTION_CLOSED, why] += 1
        self._leave(connection)
        connection.transport.abort()

    def _look(self) -> None:
        now = self._loop.time()
        for each in list(self._all):
            if each.is_unread(now, self._bounds.slow_seconds):
                self._abort(each, "unread")
            elif each.is_idle and not each.transport.is_closing():
                self._end_idle(each, now)
        self._report(now)
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _end_idle(self, connection: Connection, now: float) -> None:
        if now - connection.idle_since < self._bounds.head_seconds:
            return
        if connection.is_in_head:
            connection.transport.write(_SLOW)
        self._close(connection, "head" if connection.has_said_something else "silent")

    def _report(self, now: float) -> None:
        for reason, number in list(self._untold.items()):
            if now < self._told_at.get(reason, -math.inf) + REPORT_SECONDS:
                continue
            self._told_at[reason] = now
            del self._untold[reason]
            event, why = reason
            log.warning(event, why=why, number=number, open=len(self._open))


_watches: WeakKeyDictionary[ServerState, _Watch] = WeakKeyDictionary()


def _watch_of(state: ServerState, loop: asyncio.AbstractEventLoop, bounds: Bounds) -> _Watch:
    if state not in _watches:
        _watches[state] = _Watch(state, loop, bounds)
    return _watches[state]


_SLOW = as_answer(
    Problem(
        TOO_SLOW,
        "The first line and the headers of the request did not come in time; nothing was done. Send"
        " it again.",
    )
)
_BUSY = as_answer(
    Problem(
        UNAVAILABLE,
        "There are too many connections at the moment; nothing was done. Use fewer, or try again.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )
)
