"""A TCP proxy in front of Valkey that can pass on requests and drop the replies."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_BYTES = 65_536
_CLOSE_SECONDS = 5.0


class RedisProxy:
    """Listens on its own port in its own thread, so that a busy event loop does not slow it.

    During a `stall`, requests reach Valkey but no reply is returned; `unstall` cuts every stalled
    connection. While Valkey is down, a client's connection is closed immediately.
    """

    def __init__(self, valkey: Path) -> None:
        self._valkey = valkey
        self._stalled = False
        self._clients: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._server: asyncio.Server | None = None
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        """Drop all replies from now on."""
        self._run(self._set_stalled(True))

    def unstall(self) -> None:
        """Cut the connections whose replies were dropped; new ones work normally."""
        self._run(self._set_stalled(False))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listening)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        # Cut connections end by themselves; cancelled tasks would be logged as errors.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)

    async def _set_stalled(self, stalled: bool) -> None:
        self._stalled = stalled
        if not stalled:
            self._cut()

    def _cut(self) -> None:
        for client in list(self._clients):
            client.transport.abort()

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self._clients.add(client)
        valkey: asyncio.StreamWriter | None = None
        try:
            replies, valkey = await asyncio.open_unix_connection(str(self._valkey))
            await _first_to_end(
                _pump(requests, valkey, lambda: True),
                _pump(replies, client, lambda: not self._stalled),
            )
        except OSError:
            pass  # Valkey is down; the closed connection shows it.
        finally:
            self._clients.discard(client)
            for end in (client, valkey):
                if end is not None:
                    end.transport.abort()


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, delivers: Callable[[], bool]
) -> None:
    with suppress(OSError):
        while data := await source.read(_BYTES):
            if delivers():
                sink.write(data)
                await sink.drain()


async def _first_to_end(*pumps: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
