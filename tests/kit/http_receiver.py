"""A small HTTP server, for what is posted to others: it answers as it is told to, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HANG = b""
"""In place of an answer: say nothing, and keep the connection."""

CLOSE = b" "
"""In place of an answer: close the connection."""


def answer(status: int, *headers: str, body: str = "") -> bytes:
    """An answer of HTTP/1.1, whole."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


@dataclass
class ReceivedRequest:
    """A request that came, and how it was answered; names of headers are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes
    given: bytes = HANG


@dataclass
class Receiver:
    """Answers each request with what `reply` says to it."""

    reply: Callable[[ReceivedRequest], bytes]
    port: int = 0
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Where it is posted to."""
        return f"http://127.0.0.1:{self.port}/ended?token=hush"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request of a connection."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            posted = ReceivedRequest(head[0], headers, body)
            posted.given = self.reply(posted)
            self.requests.append(posted)
            if posted.given == HANG:
                await reader.read()
            elif posted.given != CLOSE:
                writer.write(posted.given)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running_receiver(reply: Callable[[ReceivedRequest], bytes]) -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    made = Receiver(reply)
    server = await asyncio.start_server(made.serve, "127.0.0.1")
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
