"""Opt-outs over HTTP, by a client with minimal overhead.

A client library would take longer for a request than the web process, and both share the machine's
processors.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from bench.arrivals import open_loop
from schemas.errors import SluiceError

CONNECTIONS = 16

_LENGTH = b"content-length: "


class RequestFailed(SluiceError):
    """The web process did not answer as it should have."""


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes

    async def opt_out(self, address: str) -> None:
        """Opt the address out. Raise RequestFailed unless the answer reports one
        propagated change.
        """
        event = {"address": address, "kind": "manual", "source": "benchmark", "event_id": address}
        body = json.dumps(event).encode()
        self.writer.write(b"%sContent-Length: %d\r\n\r\n%s" % (self.head, len(body), body))
        head = await self.reader.readuntil(b"\r\n\r\n")
        at = head.lower().index(_LENGTH) + len(_LENGTH)
        answer = await self.reader.readexactly(int(head[at : head.index(b"\r", at)]))
        if b" 200 " not in head[:16] or json.loads(answer)["propagated"] != 1:
            raise RequestFailed(f"An opt-out was not applied: {answer.decode()}")


class OptOutClient(NamedTuple):
    """Opts addresses out at a port of this machine, with an API key."""

    port: int
    token: str

    async def per_second(self, addresses: Sequence[str]) -> float:
        """Opt the addresses out as fast as the answers arrive. Return the rate."""
        remaining = iter(addresses)

        async def use_one_connection() -> None:
            async with self._connect() as connection:
                for address in remaining:
                    await connection.opt_out(address)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(use_one_connection())
        return round(len(addresses) / (time.perf_counter() - began), 1)

    async def by_clock(self, addresses: Sequence[str], rate: float) -> list[float]:
        """Opt the addresses out at an even rate. Return the wait of each, in ms."""
        free: asyncio.Queue[_Connection] = asyncio.Queue()

        async def send(number: int) -> None:
            connection = await free.get()
            await connection.opt_out(addresses[number])
            free.put_nowait(connection)

        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                free.put_nowait(await stack.enter_async_context(self._connect()))
            answers = await open_loop(send, rate=rate, seconds=len(addresses) / rate)
        return [wait for _, wait in answers]

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[_Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = (
            f"POST /v1/opt-outs HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
        )
        try:
            yield _Connection(reader, writer, head.encode())
        finally:
            writer.close()
