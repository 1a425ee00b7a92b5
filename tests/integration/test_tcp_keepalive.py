"""TCP connections use keep-alive. `tests/acceptance/test_network_partition.py` shows what happens
when a host disappears.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import uvloop

from db.errors import TRANSIENT_ERRORS
from db.pool import connect_options, make_pool, open_pool
from runtime.redis_client import redis_client
from runtime.settings import Settings
from tests.kit.waiting import wait_until_async

KEEPALIVE_OPTIONS = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    **{
        (socket.IPPROTO_TCP, getattr(socket, name)): value
        for name, value in (
            ("TCP_KEEPIDLE", 5),
            ("TCP_KEEPINTVL", 2),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 10_000),
        )
        # Not every platform has all of these options.
        if hasattr(socket, name)
    },
}


WRITE_BUFFER_BYTES = 64 * 1024
"""How many bytes a transport buffers by default before a writer has to wait."""


class Relay:
    """A TCP port on this machine that forwards to the server's socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_reading = asyncio.Event()
        self._is_reading.set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen, and yield the port."""
        async with await asyncio.start_server(self._forward, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    def stop_reading(self) -> None:
        """Stop reading, so that sent data piles up."""
        self._is_reading.clear()

    def abort_connections(self) -> None:
        """Abort all connections, and drop the data in transit."""
        for writer in self._writers:
            writer.transport.abort()
        self._is_reading.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._path)
        self._writers += [writer, there_writer]
        await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # uvloop raises RuntimeError for a writer that was aborted.
        with suppress(ConnectionError, RuntimeError):
            while data := await reader.read(65_536):
                await self._is_reading.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


def socket_of(url: str) -> Path:
    """Return the path of the server's socket; skip if it has none."""
    folder = parse_qs(urlsplit(url).query).get("host")
    if not folder:
        pytest.skip("the server given is reached in another way than by a socket")
    return Path(folder[0]) / ".s.PGSQL.5432"


def url_by(port: int, database_url: str) -> str:
    """Return the database's URL with this port."""
    name = urlsplit(database_url).path
    return f"postgresql://postgres@127.0.0.1:{port}{name}?sslmode=disable"


async def options_of_pool(url: str, make: Callable[..., Awaitable[asyncpg.Pool]]) -> dict:
    """Return the socket options of a pool's connection."""
    async with await make(url, size=1) as pool, pool.acquire() as connection:
        return options_of(connection)


async def options_of_connection(url: str) -> dict:
    """Return the socket options of a single connection."""
    connection = await asyncpg.connect(**connect_options(url, pgbouncer=False))
    try:
        return options_of(connection)
    finally:
        await connection.close()


def options_of(connection: asyncpg.Connection) -> dict:
    """Return the options of the connection's socket as the kernel reports them."""
    raw_socket = connection._transport.get_extra_info("socket")
    return {option: raw_socket.getsockopt(*option) for option in KEEPALIVE_OPTIONS}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_connection_to_postgres_has_keepalive(database_url: str, new_loop) -> None:
    """Pools and single connections both set the options, on asyncio's loop and on uvloop's."""

    async def check() -> None:
        async with Relay(socket_of(database_url)).open() as port:
            url = url_by(port, database_url)
            assert await options_of_pool(url, make_pool) == KEEPALIVE_OPTIONS
            assert await options_of_pool(url, open_pool) == KEEPALIVE_OPTIONS
            assert await options_of_connection(url) == KEEPALIVE_OPTIONS

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(check())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_copy_whose_connection_is_lost_ends(database_url: str, new_loop) -> None:
    """A COPY on a lost connection ends, even while it waits to write. The error is transient."""

    async def check() -> None:
        relay = Relay(socket_of(database_url))
        async with (
            relay.open() as port,
            await make_pool(url_by(port, database_url), size=1) as pool,
            pool.acquire() as connection,
        ):
            await connection.execute("create temporary table copied (what text)")

            def rows() -> Iterator[tuple[str]]:
                # The rows are requested only once the COPY has begun.
                relay.stop_reading()
                yield from [("x" * 1_000,)] * 40_000

            copying = asyncio.create_task(
                connection.copy_records_to_table("copied", records=rows())
            )
            transport = connection._transport
            sizes = [0]

            def stuck() -> bool:
                sizes.append(transport.get_write_buffer_size())
                return sizes[-1] == sizes[-2] > WRITE_BUFFER_BYTES

            await wait_until_async(stuck, deadline_seconds=10, what="the rows pile up")
            relay.abort_connections()
            async with asyncio.timeout(10):
                with pytest.raises(TRANSIENT_ERRORS):
                    await copying

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(check())


async def test_a_socket_in_the_file_system_is_left_alone(database_url: str) -> None:
    """The peer of such a socket cannot disappear unnoticed, and it lacks some of the options."""
    socket_of(database_url)
    async with await make_pool(database_url, size=1) as pool, pool.acquire() as connection:
        raw_socket = connection._transport.get_extra_info("socket")
        assert raw_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


async def test_every_connection_to_redis_has_keepalive(settings: Settings) -> None:
    """The client that consumers and enqueuing processes use sets the same options."""
    path = urlsplit(settings.redis_url).path
    if not path.endswith(".sock"):
        pytest.skip("the server given is reached in another way than by a socket")

    def options(port: int) -> dict:
        url = f"redis://127.0.0.1:{port}"
        with redis_client(url) as client:
            connection = client.connection_pool.get_connection()
            found = {option: connection._sock.getsockopt(*option) for option in KEEPALIVE_OPTIONS}
            client.connection_pool.release(connection)
            return found

    async with Relay(Path(path)).open() as port:
        assert await asyncio.to_thread(options, port) == KEEPALIVE_OPTIONS


async def test_an_idle_transaction_of_a_worker_is_ended_soon(database_url: str) -> None:
    """A worker's session has a shorter limit than a web session, which reads uploads in a
    transaction.
    """
    setting = "select current_setting('idle_in_transaction_session_timeout')"
    async with (
        await make_pool(database_url, size=1) as workers,
        await open_pool(database_url, size=1) as web,
    ):
        assert await workers.fetchval(setting) == "10s"
        assert await web.fetchval(setting) == "1min"
