"""The uvicorn protocol of a connection: every override of the server's own methods is here.

uvicorn takes a head of any size, parses all it reads, and closes only idle connections. A router
in front of a dyno limits heads and connections; without one, this protocol has to. Each override
says why it is needed; `tests/unit/test_connection_protocol.py` fails if uvicorn renames one.
"""

import asyncio
import math
import re
from contextvars import Context
from functools import partial
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from web.connection_monitor import NEW_CONNECTION_SECONDS, ConnectionLimits, get_monitor
from web.middleware.body_limit import MIN_BYTES_PER_SECOND
from web.problems import HEADERS_TOO_LARGE, MALFORMED, Problem, encode_response

MAX_HEADER_BYTES = 64 * 1024
"""A larger head is rejected. It is measured in batches: one of up to 62 KiB is always accepted."""

PARSE_BATCH_BYTES = 1024
"""How much is parsed at a time. All requests that fit in it may wait behind one under way."""

PARSE_SLICE_SECONDS = 0.002
"""How long the data of one connection is parsed before others are served. A body in tiny chunks
takes a hundred times longer than another of its size."""

_is_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]*)?").fullmatch
_VERSIONS_WITHOUT_HOST = ("0.9", "1.0")

_TOO_LARGE_RESPONSE = encode_response(
    Problem(
        HEADERS_TOO_LARGE,
        f"The request line and the headers have more than {MAX_HEADER_BYTES:,} bytes."
        " Nothing was done. Send long values in the body.",
    )
)
_NO_HOST_RESPONSE = encode_response(
    Problem(
        MALFORMED,
        "The request does not name exactly one host. Nothing was done. Send one Host header with a"
        " name and, if needed, a port.",
    )
)
_NOT_HTTP_RESPONSE = encode_response(
    Problem(MALFORMED, "The request is not valid HTTP. Nothing was done. Send it as HTTP/1.1.")
)


class _HeadRejectedError(Exception):
    """Raised into the parser to stop it."""


class _ReadFlowControl(FlowControl):
    """Resumes reading only if the connection has room.

    uvicorn resumes after each response, and whenever the application asks for a body.
    """

    def __init__(self, connection: "Connection", transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if self._connection.has_room:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection that limits its heads, its unparsed data and the time that its client takes.

    Data behind a request that has to wait is kept unparsed, and no more is read meanwhile.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._monitor = get_monitor(self.server_state, self.loop, limits)
        self.is_in_head = False
        """True from the first byte of a head, or of what trails a chunked body, to its end."""
        self._is_behind_head = False
        self._head_bytes = self._batch_bytes = 0
        self._error_response = _NOT_HTTP_RESPONSE
        self._is_last = False
        """True if no request is read after the one under way."""
        self._unparsed = b""
        self._counted_unparsed = 0
        self._parse_later: asyncio.Handle | None = None
        self._current_cycle: RequestResponseCycle | None = None
        self._unsent: tuple[float, int] | None = None
        self._began = self.idle_since = self.loop.time()
        self._body_bytes = 0
        self.has_received_data = False

    @property
    def peer(self) -> str:
        """The address that it comes from."""
        return self.client[0] if self.client else ""

    @property
    def is_idle(self) -> bool:
        """True if no request is under way. A head that has not ended is not one yet."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    @property
    def has_responded(self) -> bool:
        """True if a request has been read on it."""
        return self.cycle is not None

    @property
    def has_room(self) -> bool:
        """True if more may be read: everything is parsed, and most of the body is consumed.

        After the last request everything is read and dropped: closing a connection with unread
        data may cost its peer the response.
        """
        if self.transport.is_closing():
            return False
        if self._is_last:
            return True
        if self._unparsed or self.pipeline:
            return False
        return self.is_idle or len(self.cycle.body) <= HIGH_WATER_LIMIT

    # Called by the transport.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Register with the monitor, and control reading."""
        super().connection_made(transport)
        self.flow = _ReadFlowControl(self, transport)
        self._monitor.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way as well: uvicorn tells only the one that was read last."""
        self.pipeline.clear()
        self._keep_unparsed(b"")
        if self._current_cycle is not None and not self._current_cycle.response_complete:
            self._current_cycle.disconnected = True
            self._current_cycle.message_event.set()
        super().connection_lost(exc)
        self._monitor.remove(self)

    def data_received(self, data: bytes) -> None:
        """Parse in batches, unless a request has to wait; uvicorn parses all data in one call."""
        self.has_received_data = True
        self._unparsed += data
        if self._parse_later is None:
            self._parse()

    def resume_writing(self) -> None:
        """Measure the client's pace from the next time that it has to be waited for."""
        self._unsent = None
        super().resume_writing()

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Begin to measure a head."""
        super().on_message_begin()
        self._is_behind_head = False
        self._begin_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Drop headers that trail a body: the request was accepted without them."""
        if not self._is_behind_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Reject a head that is too large or does not name its host: uvicorn checks neither."""
        self.is_in_head, self._is_behind_head = False, True
        if self._head_bytes > MAX_HEADER_BYTES:
            self._error_response = _TOO_LARGE_RESPONSE
            raise _HeadRejectedError
        if not self._has_valid_host():
            self._error_response = _NO_HOST_RESPONSE
            raise _HeadRejectedError
        self._began, self._body_bytes = self.loop.time(), 0
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Measure the trailers after the last chunk like a head; a body follows any other."""
        self._begin_head()

    def on_body(self, body: bytes) -> None:
        """Count the body for its pace."""
        self.is_in_head = False
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop measuring the trailers of a chunked body."""
        self.is_in_head = False
        super().on_message_complete()

    # Called by uvicorn.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Queue the request, even if the client has left: its opt-out must still be applied."""
        self._current_cycle = cycle
        self._monitor.start(partial(super()._start_asgi_task, cycle, app))

    def on_response_complete(self) -> None:
        """Parse the data that was kept until this response ended."""
        self.idle_since = self.loop.time()
        super().on_response_complete()
        has_waited = self._unparsed or self.flow.read_paused
        if has_waited and self._parse_later is None and not self.pipeline:
            self._parse()
        self._monitor.mark_idle(self)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - a problem says it
        """Send a problem; uvicorn would write plain text into a response under way."""
        self._end(self._error_response)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer like any request, then close: the next bytes may be of another protocol."""
        self._mark_last()

    # The rest is not of uvicorn.

    def _begin_head(self) -> None:
        self.is_in_head = True
        self._head_bytes = self._batch_bytes

    def _has_valid_host(self) -> bool:
        hosts = [value for name, value in self.headers if name == b"host"]
        if not hosts:
            return self.parser.get_http_version() in _VERSIONS_WITHOUT_HOST
        return len(hosts) == 1 and _is_host(hosts[0]) is not None

    def _parse(self) -> None:
        """Parse what was read until a request has to wait."""
        self._parse_later = None
        until = self.loop.time() + PARSE_SLICE_SECONDS
        rest = memoryview(self._unparsed)
        while rest and not self.pipeline and not self._is_done_reading:
            if self.loop.time() > until:
                self._parse_later = self.loop.call_soon(self._parse, context=Context())
                break
            self._parse_batch(bytes(rest[:PARSE_BATCH_BYTES]))
            rest = rest[PARSE_BATCH_BYTES:]
        self._keep_unparsed(b"" if self._is_done_reading else bytes(rest))
        if self._unparsed:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _parse_batch(self, batch: bytes) -> None:
        self._batch_bytes = len(batch)
        if self.is_in_head:
            self._head_bytes += len(batch)
        super().data_received(batch)
        if self.is_in_head and self._head_bytes > MAX_HEADER_BYTES and not self._is_done_reading:
            self.logger.warning("Request with too large a head rejected.")
            self._end(_TOO_LARGE_RESPONSE)

    @property
    def _is_done_reading(self) -> bool:
        return self._is_last or self.transport.is_closing()

    def _keep_unparsed(self, rest: bytes) -> None:
        # The rest of a body whose slice has ended is parsed soon.
        counted = len(rest) if self.pipeline else 0
        self._monitor.count_unparsed(self, counted - self._counted_unparsed)
        self._unparsed, self._counted_unparsed = rest, counted

    def _end(self, response: bytes) -> None:
        """Close after the responses to all requests that came complete."""
        if self.is_idle:
            self.transport.write(response)
            self.transport.close()
        elif self.cycle.more_body:
            self.transport.close()
        else:
            self._mark_last()

    def _mark_last(self) -> None:
        self._is_last = True
        self.cycle.keep_alive = False

    def bytes_per_second(self, now: float) -> float:
        """Return the pace at which the client sends a body or reads a response.

        Infinite if the client is not waited for, or only for a short time.
        """
        if self.pipeline:
            # It asks for more before it has its responses.
            return 0.0
        if self._unsent:
            since, size_then = self._unsent
            moved = size_then - self.transport.get_write_buffer_size()
        elif self._is_awaiting_body:
            since, moved = self._began, self._body_bytes
        else:
            return math.inf
        waited = now - since
        return moved / waited if waited > NEW_CONNECTION_SECONDS else math.inf

    @property
    def _is_awaiting_body(self) -> bool:
        return (
            not self.is_idle
            and self.cycle.more_body
            and not self.cycle.waiting_for_100_continue
            and not self.flow.read_paused
        )

    def is_unread(self, now: float, seconds: float) -> bool:
        """Return whether the client read less than the minimum rate for more than `seconds`.

        Only known while nothing is added: the application has to wait, or has finished.
        """
        size = self.transport.get_write_buffer_size()
        is_fixed = self.flow.write_paused or self.is_idle or self.transport.is_closing()
        if not size or not is_fixed:
            self._unsent = None
            return False
        since, size_then = self._unsent = self._unsent or (now, size)
        waited = now - since
        return waited > seconds and size_then - size < MIN_BYTES_PER_SECOND * waited
