"""Connections over TCP are watched; what happens when a host really vanishes is shown in
`tests/acceptance/test_two_hosts.py`.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import uvloop

from db.pool import connect_options, make_pool, open_pool
from runtime.redis_client import redis_client
from runtime.settings import Settings

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


@asynccontextmanager
async def over_tcp(path: Path) -> AsyncIterator[int]:
    """A port of this machine that leads to the server's socket at `path`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))

    async with await asyncio.start_server(lead, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def socket_of(url: str) -> Path:
    folder = parse_qs(urlsplit(url).query).get("host")
    if not folder:
        pytest.skip("the server given is reached in another way than by a socket")
    return Path(folder[0]) / ".s.PGSQL.5432"


async def options_of_pool(url: str, make: Callable[..., Awaitable[asyncpg.Pool]]) -> dict:
    async with await make(url, size=1) as pool, pool.acquire() as connection:
        return options_of(connection)


async def options_of_connection(url: str) -> dict:
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
        async with over_tcp(socket_of(database_url)) as port:
            name = urlsplit(database_url).path
            url = f"postgresql://postgres@127.0.0.1:{port}{name}?sslmode=disable"
            assert await options_of_pool(url, make_pool) == WATCHED
            assert await options_of_pool(url, open_pool) == WATCHED
            assert await options_of_connection(url) == WATCHED

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

    async with over_tcp(Path(path)) as port:
        assert await asyncio.to_thread(options, port) == WATCHED


async def test_an_idle_transaction_of_a_worker_is_ended_soon(database_url: str) -> None:
    """A worker's session has less time than one at the door, which reads files meanwhile."""
    setting = "select current_setting('idle_in_transaction_session_timeout')"
    async with (
        await make_pool(database_url, size=1) as workers,
        await open_pool(database_url, size=1) as door,
    ):
        assert await workers.fetchval(setting) == "10s"
        assert await door.fetchval(setting) == "1min"
