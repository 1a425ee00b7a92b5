"""Connections that keep a web process waiting are closed, and others are served in the meantime."""

import json
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from db.pool import open_pool
from producers.keys import Scope, create_key
from runtime.devservers.embedded import ServerUrls
from runtime.events import EVENTS
from runtime.settings import Settings
from tests.acceptance.conftest import StartWeb
from tests.conftest import NewDatabase, settings_for
from tests.kit.log_lines import undeclared_keys
from tests.kit.servers import process_role_url
from tests.kit.waiting import wait_until
from tests.kit.web_process import WebGroup
from web.connection_monitor import ConnectionLimits

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
FIRST_LINES = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n"


class ShortTimeoutServer(NamedTuple):
    """A web process whose limits are one second instead of many.

    `key` is the header line of an API key with all scopes.
    """

    web: WebGroup
    key: bytes


@pytest.fixture(scope="module")
async def short_timeout_server(
    servers: ServerUrls,
    new_database: NewDatabase,
    start_web: StartWeb,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[ShortTimeoutServer]:
    """Run a web process with limits of one second, and yield it with an API key's header."""
    async with new_database() as url:
        async with await open_pool(url, size=1) as pool:
            api_key = await create_key(pool, account="default", name="test", scopes=list(Scope))
        settings = settings_for(servers.redis_url, process_role_url(url))
        log = tmp_path_factory.mktemp("impatient") / "web.log"
        with start_web(
            settings, log, HEADER_TIMEOUT_SECONDS="1.0", SLOW_CLIENT_SECONDS="1.0"
        ) as web:
            yield ShortTimeoutServer(
                web.serving(), f"Authorization: Bearer {api_key.secret}\r\n".encode()
            )


def connect(web: WebGroup, source: str = "127.0.0.1") -> socket.socket:
    """Connect to the web process from one of this machine's addresses."""
    return socket.create_connection(("127.0.0.1", web.port), 30, (source, 0))


def receive_slowly(connection: socket.socket, drop: bytes) -> bytes:
    """Send `drop` whenever nothing arrives for 0.2 seconds, until the connection ends; return all
    that was received.
    """
    received = b""
    connection.settimeout(0.2)
    for _ in range(100):
        try:
            part = connection.recv(10_000)
        except TimeoutError:
            connection.sendall(drop)
            continue
        except ConnectionError:
            return received
        if not part:
            return received
        received += part
    raise AssertionError("the connection does not end")


def closing_reasons(web: WebGroup, event: str, *, after: int = 0) -> set[str]:
    """Return the reasons that the log gives for this event, after the first `after` lines."""
    lines = [line for line in web.events()[after:] if line["event"] == event]
    assert not any(undeclared_keys(event, line.keys() - {"web"}) for line in lines)
    return {line["reason"] for line in lines}


def test_slow_connections_are_closed(short_timeout_server: ShortTimeoutServer):
    """Connections that are silent, or send a head, a body or blank lines too slowly, are closed. So
    is one whose body continues after the answer. The log gives the reasons. A connection that sends
    requests in time stays open.
    """
    web, key = short_timeout_server
    before = len(web.lines())
    with ExitStack() as stack:
        silent, head, blank, body, late = (
            stack.enter_context(closing(connect(web))) for _ in range(5)
        )
        head.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        body.sendall(FIRST_LINES + key + b"Content-Type: application/json\r\n\r\n")
        late.sendall(FIRST_LINES + b"\r\n")
        assert silent.recv(1) == b""
        assert receive_slowly(head, b"a").startswith(b"HTTP/1.1 408 ")
        assert receive_slowly(blank, b"\r\n") == b""
        answer = receive_slowly(body, b" ")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert (
            json.loads(answer.partition(b"\r\n\r\n")[2])["type"]
            == "urn:sluice:problem:request-timeout"
        )
        assert receive_slowly(late, b"x").startswith(b"HTTP/1.1 401 ")
        lasting = stack.enter_context(closing(connect(web)))
        lasting.settimeout(0.3)
        for _ in range(6):
            # Together the requests take longer than one head may take.
            lasting.sendall(HEALTHZ)
            answer = b""
            while not answer.endswith(b"}"):
                answer += lasting.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 200 ")
            with pytest.raises(TimeoutError):
                lasting.recv(1)
        wait_until(
            lambda: closing_reasons(web, "connection.closed", after=before) == {"silent", "head"},
            deadline_seconds=20,
            what="the reasons are logged",
        )


def test_connections_that_do_not_read_answers_are_closed(short_timeout_server: ShortTimeoutServer):
    """A connection whose answers are not read is closed, however much the kernel buffers."""
    before = len(short_timeout_server.web.lines())
    with closing(socket.socket()) as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.connect(("127.0.0.1", short_timeout_server.web.port))
        unread.settimeout(0.5)
        requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        with suppress(TimeoutError, ConnectionError):
            unread.sendall(requests)
        wait_until(
            lambda: (
                "unread"
                in closing_reasons(short_timeout_server.web, "connection.closed", after=before)
            ),
            deadline_seconds=30,
            what="the connection is closed",
        )


def test_many_connections_do_not_block_new_ones(
    settings: Settings, start_web: StartWeb, tmp_path: Path
):
    """A new connection replaces the one that has been idle longest. One peer cannot exceed its own
    limit.
    """
    with (
        start_web(
            settings, tmp_path / "web.log", MAX_CONNECTIONS="20", MAX_CONNECTIONS_PER_PEER="15"
        ) as web,
        ExitStack() as stack,
    ):
        web.serving()
        for number in range(30):
            stack.enter_context(closing(connect(web, f"127.0.0.{2 + number // 15}")))
        with closing(connect(web, "127.0.0.2")) as extra:
            extra.sendall(HEALTHZ)
            assert receive_slowly(extra, b"").startswith(b"HTTP/1.1 503 ")

        def answered() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{web.url}/healthz").status_code == 200
            return False

        wait_until(answered, deadline_seconds=20, what="another peer is served")
        wait_until(
            lambda: (
                "room" in closing_reasons(web, "connection.closed")
                and {"peer", "total"} <= closing_reasons(web, "connection.refused")
            ),
            deadline_seconds=30,
            what="both are logged",
        )
        assert {line["event"] for line in web.events()} <= EVENTS.keys()


def test_slow_requests_do_not_block_new_connections(
    settings: Settings, start_web: StartWeb, tmp_path: Path
):
    """Every connection has a request in progress, and most send it as slowly as allowed. A new
    connection replaces the slowest one, and a fast one is kept.
    """
    with (
        start_web(settings, tmp_path / "web.log", MAX_CONNECTIONS="20") as web,
        ExitStack() as stack,
    ):
        web.serving()
        form = b"POST /v1/hooks/1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
        slow = [stack.enter_context(closing(connect(web))) for _ in range(19)]
        for each in slow:
            each.sendall(form)
        fast = stack.enter_context(closing(connect(web)))
        fast.sendall(form)
        served = []

        def served_five_times() -> bool:
            fast.sendall(b"x" * 30_000)
            for each in slow:
                with suppress(ConnectionError):
                    each.sendall(b"x" * 100)
            with suppress(httpx.TransportError):
                served.append(httpx.get(f"{web.url}/healthz").status_code)
            return served.count(200) == 5

        wait_until(served_five_times, deadline_seconds=10, what="others are served")
        fast.settimeout(0.2)
        with pytest.raises(TimeoutError):
            fast.recv(1)
        for _ in range(25):
            # A connection whose request was answered can be replaced, even if that was a moment
            # ago.
            asking = stack.enter_context(closing(connect(web)))
            asking.settimeout(20)
            asking.sendall(HEALTHZ)
            assert asking.recv(100).startswith(b"HTTP/1.1 200 ")
        wait_until(
            lambda: "room" in closing_reasons(web, "connection.closed"),
            deadline_seconds=30,
            what="the closed connections are logged",
        )


def test_connections_are_limited_by_open_files(settings: Settings, monkeypatch):
    """The limit is the number of files that the user may open, minus what the process needs."""
    allowed: list[tuple[int, int]] = [(256, 300)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: allowed[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: allowed.append(limits))
    bounds = ConnectionLimits.from_settings(settings)
    assert allowed[-1] == (300, 300)
    assert 200 < bounds.max_total < 240
    assert (
        ConnectionLimits.from_settings(settings.model_copy(update={"max_connections": 7})).max_total
        == 7
    )


def memory_mb(web: WebGroup) -> int:
    """Return the peak memory of the process in MB."""
    status = Path(f"/proc/{web.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def test_pipelined_requests_use_little_memory(short_timeout_server: ShortTimeoutServer):
    """However many requests are sent on a connection whose answers are not read, the process keeps
    only a few of them and serves others. If the answers are read, all requests are answered in
    order.
    """
    web, key = short_timeout_server
    before = memory_mb(web)
    body = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 300_000
    for requests in (HEALTHZ * 100_000, b"GET /\r\n\r\n" * 300_000, HEALTHZ * 200 + body * 10):
        with closing(connect(web)) as unread:
            unread.settimeout(0.3)
            with suppress(TimeoutError, ConnectionError):
                unread.sendall(requests)
            for _ in range(30):
                assert httpx.get(f"{web.url}/healthz").status_code == 200
    with closing(connect(web)) as reader:
        reader.settimeout(20)
        unknown = b"GET /unknown HTTP/1.1\r\nHost: x\r\n\r\n"
        json_type = b"Content-Type: application/json\r\n"
        small = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + key + json_type
        chunked = (
            small + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2_000 + b"0\r\n\r\n"
        )
        whole = small + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000
        last = HEALTHZ[:-2] + b"Connection: close\r\n\r\n"
        reader.sendall((HEALTHZ + unknown) * 100 + chunked + whole + last)
        received = b"".join(iter(partial(reader.recv, 65_536), b""))
    statuses = [answer[:3] for answer in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"404"] * 100 + [b"400", b"400", b"200"]
    assert memory_mb(web) - before < 30
    assert "request.failed" not in {line["event"] for line in web.events()}


@pytest.mark.parametrize(
    "last",
    [
        HEALTHZ + b"no request\r\n\r\n",
        HEALTHZ + HEALTHZ[:-2] + b"X-Long: " + b"a" * 100_000,
        HEALTHZ[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + HEALTHZ,
        HEALTHZ[:-2] + b"Connection: close\r\n\r\n" + HEALTHZ,
    ],
)
def test_complete_requests_are_answered_before_the_end(
    short_timeout_server: ShortTimeoutServer, last: bytes
):
    """Complete requests are answered first. An invalid request after them, or another protocol,
    ends only that connection.
    """
    with closing(connect(short_timeout_server.web)) as asking:
        asking.sendall(HEALTHZ * 3 + last)
        received = receive_slowly(asking, b"")
    statuses = [answer[:3] for answer in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 4
    assert received.count(b"connection: close") == 1
