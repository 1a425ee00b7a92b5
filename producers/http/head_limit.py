"""How long the head of a request, its first line and its headers, may be.

The server itself takes a head of any length, and a line of it that never ends. A router in front
of a dyno does not, but nothing says that there is one.
"""

import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from producers.http.problems import HEAD_TOO_LARGE, MEDIA_TYPE, Problem, problem_body

MOST_HEAD_BYTES = 64 * 1024


class HeadLimit(HttpToolsProtocol):
    """The server's protocol for a connection, which ends it where a head goes on for too long.

    Counted is what has come of a head that is still without its end, but not what came together
    with its first byte: that may be the end of another request's body, and is no more than what is
    read at once.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._in_head = False
        self._has_just_begun = False
        self._head_bytes = 0

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._begin_head()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_head = False
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Called by the parser. Of the last chunk there is no body, but what trails it."""
        self._begin_head()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._in_head = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._in_head = False
        super().on_message_complete()

    def _begin_head(self) -> None:
        self._in_head = self._has_just_begun = True
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Called by the transport."""
        self._has_just_begun = False
        super().data_received(data)
        if self._in_head and not self._has_just_begun:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self._refuse()

    def _refuse(self) -> None:
        # As the server does where what comes is no HTTP.
        self.logger.warning("Request with too large a head refused.")
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSAL)
        self.transport.close()


def as_answer(problem: Problem) -> bytes:
    """Return the whole answer to what has not become a request: the last on its connection."""
    body = json.dumps(problem_body(problem)).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": len(body), "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | problem.headers).items())
    return STATUS_LINE[int(problem.kind.status)] + f"{lines}\r\n".encode() + body


_REFUSAL = as_answer(
    Problem(
        HEAD_TOO_LARGE,
        f"The first line and the headers of the request have more than {MOST_HEAD_BYTES:,} bytes;"
        " nothing was done. What is long goes into the body.",
    )
)
