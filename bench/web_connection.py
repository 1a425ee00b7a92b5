"""A kept-alive connection to a web process, with as little between as there can be.

A client library would take longer for a request than the web process takes for its answer, and the
two share the machine's processors.
"""

import asyncio
from types import TracebackType
from typing import NamedTuple, Self

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length: "


class Answer(NamedTuple):
    """What came of a request whose answer says how long it is."""

    status: int
    body: bytes


class WebConnection:
    """One connection to a port of this machine, for one request at a time."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = (
            f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def post(self, path: str, body: bytes) -> Answer:
        """The answer to a POST of JSON."""
        self._writer.write(
            b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s"
            % (path.encode(), self._head, len(body), body)
        )
        head = await self._reader.readuntil(_END_OF_HEAD)
        at = head.lower().index(_LENGTH) + len(_LENGTH)
        length = int(head[at : head.index(b"\r", at)])
        return Answer(int(head.split(b" ", 2)[1]), await self._reader.readexactly(length))
