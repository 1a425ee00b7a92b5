"""Connections over TCP are watched; what happens when a host really vanishes is shown in
`tests/acceptance/test_network_partition.py`.
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

WATCHED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    **{
        (socket.IPPROTO_TCP, getattr(socket, name)): value
        for name, value in (
            ("TCP_KEEPIDLE", 5),
            ("TCP_KEEPINTVL", 2),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 10_000),
        )
        # Not every platform has each.
        if hasattr(socket, name)
    },
}


WRITES_UP_TO = 64 * 1024
"""How many bytes may wait in a transport, by default, before who writes is to wait too."""


class Relay:
    """A port of this machine that leads to the server's socket at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._takes = asyncio.Event()
        self._takes.set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listen, and yield the port."""
        async with await asyncio.start_server(self._lead, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    def take_no_more(self) -> None:
        """Let what is sent pile up."""
        self._takes.clear()

    def break_off(self) -> None:
        """End all connections, and lose what is under way."""
        for writer in self._writers:
            writer.transport.abort()
        self._takes.set()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._path)
        self._writers += [writer, there_writer]
        await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The second is uvloop's, of a writer that was ended.
        with suppress(ConnectionError, RuntimeError):
            while data := await reader.read(65_536):
                await self._takes.wait()
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
    """Return the database's URL through this port."""
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
    """What the kernel says of the connection's socket."""
    connected = connection._transport.get_extra_info("socket")
    return {option: connected.getsockopt(*option) for option in WATCHED}


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_connection_to_postgres_is_watched(database_url: str, new_loop) -> None:
    """In pools and alone, on the loop of the commands and on that of the workers."""

    async def check() -> None:
        async with Relay(socket_of(database_url)).open() as port:
            url = url_by(port, database_url)
            assert await options_of_pool(url, make_pool) == WATCHED
            assert await options_of_pool(url, open_pool) == WATCHED
            assert await options_of_connection(url) == WATCHED

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(check())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_copy_whose_connection_is_lost_ends(database_url: str, new_loop) -> None:
    """Also while it waits for room to write; and it is not the fault of what was copied."""

    async def check() -> None:
        relay = Relay(socket_of(database_url))
        async with (
            relay.open() as port,
            await make_pool(url_by(port, database_url), size=1) as pool,
            pool.acquire() as connection,
        ):
            await connection.execute("create temporary table copied (what text)")

            def rows() -> Iterator[tuple[str]]:
                # Asked for when the COPY has begun.
                relay.take_no_more()
                yield from [("x" * 1_000,)] * 40_000

            copying = asyncio.create_task(
                connection.copy_records_to_table("copied", records=rows())
            )
            transport = connection._transport
            sizes = [0]

            def stuck() -> bool:
                sizes.append(transport.get_write_buffer_size())
                return sizes[-1] == sizes[-2] > WRITES_UP_TO

            await wait_until_async(stuck, deadline_seconds=10, what="the rows pile up")
            relay.break_off()
            async with asyncio.timeout(10):
                with pytest.raises(TRANSIENT_ERRORS):
                    await copying

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(check())


async def test_a_socket_in_the_file_system_is_left_alone(database_url: str) -> None:
    """Its peer cannot vanish without a word, and some of the options do not exist there."""
    socket_of(database_url)
    async with await make_pool(database_url, size=1) as pool, pool.acquire() as connection:
        connected = connection._transport.get_extra_info("socket")
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


async def test_every_connection_to_redis_is_watched(settings: Settings) -> None:
    """That of the consumer, and that of who rings."""
    path = urlsplit(settings.redis_url).path
    if not path.endswith(".sock"):
        pytest.skip("the server given is reached in another way than by a socket")

    def options(port: int) -> dict:
        url = f"redis://127.0.0.1:{port}"
        with redis_client(url) as client:
            connection = client.connection_pool.get_connection()
            found = {option: connection._sock.getsockopt(*option) for option in WATCHED}
            client.connection_pool.release(connection)
            return found

    async with Relay(Path(path)).open() as port:
        assert await asyncio.to_thread(options, port) == WATCHED


async def test_an_idle_transaction_of_a_worker_is_ended_soon(database_url: str) -> None:
    """A worker's session has less time than one of a web process, which reads uploads meanwhile."""
    setting = "select current_setting('idle_in_transaction_session_timeout')"
    async with (
        await make_pool(database_url, size=1) as workers,
        await open_pool(database_url, size=1) as web,
    ):
        assert await workers.fetchval(setting) == "10s"
        assert await web.fetchval(setting) == "1min"
