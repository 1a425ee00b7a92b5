"""An HTTP server that records requests and answers as a test decides."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

HANG = b""
"""A reply: send nothing, and keep the connection open."""

CLOSE = b" "
"""A reply: close the connection."""


def answer(status: int, *headers: str, body: str = "") -> bytes:
    """Return a complete HTTP/1.1 response."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


@dataclass
class ReceivedRequest:
    """A received request and its reply; header names are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes
    reply: bytes = HANG


@dataclass
class Receiver:
    """A server that answers each request with the result of `reply`."""

    reply: Callable[[ReceivedRequest], bytes]
    port: int = 0
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        """Return the URL to post to."""
        return f"http://127.0.0.1:{self.port}/ended?token=hush"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read and answer one request of a connection."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
            request = ReceivedRequest(head[0], headers, body)
            request.reply = self.reply(request)
            self.requests.append(request)
            if request.reply == HANG:
                await reader.read()
            elif request.reply != CLOSE:
                writer.write(request.reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def run_receiver(reply: Callable[[ReceivedRequest], bytes]) -> AsyncIterator[Receiver]:
    """Run a receiver on an unused port."""
    receiver = Receiver(reply)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1")
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def run_scripted_receiver(*answers: bytes) -> AsyncIterator[Receiver]:
    """Run a receiver that gives these replies in order and repeats the last one."""
    left = list(answers)

    def reply(_request: ReceivedRequest) -> bytes:
        return left.pop(0) if len(left) > 1 else left[0]

    async with run_receiver(reply) as receiver:
        yield receiver
