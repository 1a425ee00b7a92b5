"""What the head of a request, its first line and its headers, may be.

The server itself takes a head of any length, and a line of it that never ends, and does not look at
Host. A router in front of a dyno does, but nothing says that there is one.
"""

import json
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from web.problems import HEADERS_TOO_LARGE, MALFORMED, MEDIA_TYPE, Problem, build_problem_body

MAX_HEADER_BYTES = 64 * 1024

_is_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]*)?").fullmatch
_HEADER_OVERHEAD_BYTES = 4
"""A colon, a blank and the end of the line."""

_VERSIONS_WITHOUT_HOST = ("0.9", "1.0")
"""The versions of HTTP in which a request need not name its host."""


class _HeadersRejectedError(Exception):
    """The head is not taken: raised to the parser, which ends by it."""


class HeaderLimitProtocol(HttpToolsProtocol):
    """The server's protocol for a connection, which ends it where a head is not taken.

    A whole head is measured by what it names. Of one that is still without its end, all is counted
    that has come, but not what came together with its first byte: that may be the end of another
    request's body, and is at most one read from the socket.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = False
        self._has_just_begun = False
        self._head_bytes = 0
        self._named_bytes = 0
        self._is_behind_body = False
        self._error_response = _NOT_HTTP_RESPONSE
        self._is_last = False
        """Whether nothing is read behind the request that is under way."""

    def on_message_begin(self) -> None:
        """Start counting a new head; called by the parser."""
        super().on_message_begin()
        self._named_bytes = 0
        self._is_behind_body = False
        self._begin_head()

    def on_url(self, url: bytes) -> None:
        """Count a part of the URL; called by the parser."""
        self._named_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; called by the parser.

        Trailers of a body are dropped, since they were not there when the request was checked.
        """
        if not self._is_behind_body:
            self._named_bytes += len(name) + len(value) + _HEADER_OVERHEAD_BYTES
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop counting, and accept the request; called by the parser."""
        self._in_head = False
        if self._named_bytes > MAX_HEADER_BYTES:
            self._error_response = _TOO_LARGE_RESPONSE
        elif not self._has_valid_host():
            self._error_response = _NO_HOST_RESPONSE
        else:
            super().on_headers_complete()
            return
        raise _HeadersRejectedError

    def _has_valid_host(self) -> bool:
        """Return whether there is one host, or, as earlier versions of HTTP allow, none."""
        hosts = [value for name, value in self.headers if name == b"host"]
        if not hosts:
            return self.parser.get_http_version() in _VERSIONS_WITHOUT_HOST
        return len(hosts) == 1 and _is_host(hosts[0]) is not None

    def on_chunk_header(self) -> None:
        """Note whether a chunk begins; called by the parser. Trailers follow the last one."""
        self._is_behind_body = True
        self._begin_head()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body; called by the parser."""
        self._in_head = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the message is complete; called by the parser."""
        self._in_head = False
        super().on_message_complete()

    def _begin_head(self) -> None:
        self._in_head = self._has_just_begun = True
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Limit what is parsed at a time; called by the transport."""
        self._has_just_begun = False
        super().data_received(data)
        if self._in_head and not self._has_just_begun:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self._refuse()

    def _refuse(self) -> None:
        self.logger.warning("Request with too large a head refused.")
        self._end(_TOO_LARGE_RESPONSE)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - it is told as a problem
        """Answer what is not HTTP, or was refused; called by the server when the parser ended."""
        self._end(self._error_response)

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore a requested upgrade; called by the server.

        The request is answered as any other. What follows it may use another protocol, and is lost.
        """
        self._mark_last()

    def _end(self, answer: bytes) -> None:
        """End the connection, when the requests that came whole were answered."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
            self.transport.close()
        elif self.cycle.more_body:
            self.transport.close()
        else:
            self._mark_last()

    def _mark_last(self) -> None:
        self._is_last = True
        self.cycle.keep_alive = False


def encode_response(problem: Problem) -> bytes:
    """Return the whole answer to what has not become a request: the last on its connection."""
    body = json.dumps(build_problem_body(problem)).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": len(body), "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | problem.headers).items())
    return STATUS_LINE[int(problem.kind.status)] + f"{lines}\r\n".encode() + body


_TOO_LARGE_RESPONSE = encode_response(
    Problem(
        HEADERS_TOO_LARGE,
        f"The first line and the headers of the request have more than {MAX_HEADER_BYTES:,} bytes;"
        " nothing was done. What is long goes into the body.",
    )
)
_NO_HOST_RESPONSE = encode_response(
    Problem(
        MALFORMED,
        "The request does not name one host; nothing was done. Send one header Host, with a name"
        " and, if need be, a port.",
    )
)
_NOT_HTTP_RESPONSE = encode_response(
    Problem(
        MALFORMED,
        "The request is not HTTP that can be read; nothing was done. Send it as HTTP/1.1 has it.",
    )
)
