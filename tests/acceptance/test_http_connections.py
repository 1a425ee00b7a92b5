"""Connections that keep a web process waiting: they end, and others are served meanwhile."""

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
from tests.conftest import NewDatabase, settings_for
from tests.kit.log_lines import undeclared_keys
from tests.kit.servers import process_role_url
from tests.kit.waiting import wait_until
from tests.kit.web_process import WebGroup
from web.connection_monitor import ConnectionLimits

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
FIRST_LINES = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n"


class ShortTimeoutServer(NamedTuple):
    """A web process that waits for a second where others wait for many.

    `key` is the header of a request by a key that may do everything.
    """

    web: WebGroup
    key: bytes


@pytest.fixture(scope="module")
async def impatient(
    servers: ServerUrls, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ShortTimeoutServer]:
    """Run a web process with limits of one second, and yield it with a key's header."""
    async with new_database() as url:
        async with await open_pool(url, size=1) as pool:
            made = await create_key(pool, account="default", name="test", scopes=list(Scope))
        settings = settings_for(servers.redis_url, process_role_url(url))
        log = tmp_path_factory.mktemp("impatient") / "web.log"
        with WebGroup(
            settings, log, HEADER_TIMEOUT_SECONDS="1.0", SLOW_CLIENT_SECONDS="1.0"
        ) as web:
            yield ShortTimeoutServer(
                web.serving(), f"Authorization: Bearer {made.token}\r\n".encode()
            )


def connected(web: WebGroup, source: str = "127.0.0.1") -> socket.socket:
    """A connection to it from one of this machine's addresses."""
    return socket.create_connection(("127.0.0.1", web.port), 30, (source, 0))


def sent_slowly(connection: socket.socket, drop: bytes) -> bytes:
    """What is answered until the connection ends, while `drop` is sent five times a second."""
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


def closed(web: WebGroup, event: str, *, after: int = 0) -> set[str]:
    """Why connections were closed, or refused, as its log tells it `after` so many lines."""
    told = [line for line in web.events()[after:] if line["event"] == event]
    assert not any(undeclared_keys(event, line.keys() - {"web"}) for line in told)
    return {line["reason"] for line in told}


def test_who_keeps_it_waiting_is_closed(impatient: ShortTimeoutServer):
    """One that says nothing, a head and a body that come a byte at a time, blank lines for ever,
    and a body that goes on after its answer; the log tells of them, and who asks is served on a
    connection that lasts.
    """
    web, key = impatient
    before = len(web.lines())
    with ExitStack() as stack:
        silent, head, blank, body, late = (
            stack.enter_context(closing(connected(web))) for _ in range(5)
        )
        head.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        body.sendall(FIRST_LINES + key + b"Content-Type: application/json\r\n\r\n")
        late.sendall(FIRST_LINES + b"\r\n")
        assert silent.recv(1) == b""
        assert sent_slowly(head, b"a").startswith(b"HTTP/1.1 408 ")
        assert sent_slowly(blank, b"\r\n") == b""
        answer = sent_slowly(body, b" ")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert (
            json.loads(answer.partition(b"\r\n\r\n")[2])["type"]
            == "urn:sluice:problem:request-timeout"
        )
        assert sent_slowly(late, b"x").startswith(b"HTTP/1.1 401 ")
        lasting = stack.enter_context(closing(connected(web)))
        lasting.settimeout(0.3)
        for _ in range(6):
            # In all for longer than a head may take.
            lasting.sendall(HEALTHZ)
            answer = b""
            while not answer.endswith(b"}"):
                answer += lasting.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 200 ")
            with pytest.raises(TimeoutError):
                lasting.recv(1)
        wait_until(
            lambda: closed(web, "connection.closed", after=before) == {"silent", "head"},
            deadline_seconds=20,
            what="the log tells why connections were closed",
        )


def test_who_does_not_read_its_answers_is_closed(impatient: ShortTimeoutServer):
    """However much of them the system keeps for it, it takes no place for ever."""
    before = len(impatient.web.lines())
    with closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", impatient.web.port))
        deaf.settimeout(0.5)
        asks = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        with suppress(TimeoutError, ConnectionError):
            deaf.sendall(asks)
        wait_until(
            lambda: "unread" in closed(impatient.web, "connection.closed", after=before),
            deadline_seconds=30,
            what="the connection is closed",
        )


def test_many_connections_shut_nobody_out(settings: Settings, tmp_path: Path):
    """However many say nothing, a new one has the place of that which was idle for longest; and of
    one peer there are no more than it may have.
    """
    with (
        WebGroup(
            settings, tmp_path / "web.log", MAX_CONNECTIONS="20", MAX_CONNECTIONS_PER_PEER="15"
        ) as web,
        ExitStack() as stack,
    ):
        web.serving()
        for number in range(30):
            stack.enter_context(closing(connected(web, f"127.0.0.{2 + number // 15}")))
        with closing(connected(web, "127.0.0.2")) as more:
            more.sendall(HEALTHZ)
            assert sent_slowly(more, b"").startswith(b"HTTP/1.1 503 ")

        def answered() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{web.url}/healthz").status_code == 200
            return False

        wait_until(answered, deadline_seconds=20, what="another peer is served")
        wait_until(
            lambda: (
                "room" in closed(web, "connection.closed")
                and {"peer", "total"} <= closed(web, "connection.refused")
            ),
            deadline_seconds=30,
            what="the log tells of both",
        )
        assert {line["event"] for line in web.events()} <= EVENTS.keys()


def test_slow_requests_shut_nobody_out(settings: Settings, tmp_path: Path):
    """Where each connection has a request under way, whose body comes as slowly as it may or whose
    answer is not read, a new one has the place of the slowest; one that comes fast keeps its own.
    """
    with (
        WebGroup(settings, tmp_path / "web.log", MAX_CONNECTIONS="20") as web,
        ExitStack() as stack,
    ):
        web.serving()
        form = b"POST /v1/hooks/1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
        slow = [stack.enter_context(closing(connected(web))) for _ in range(19)]
        for each in slow:
            each.sendall(form)
        fast = stack.enter_context(closing(connected(web)))
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
            # Those that were answered make room, however short a time ago that was.
            asking = stack.enter_context(closing(connected(web)))
            asking.settimeout(20)
            asking.sendall(HEALTHZ)
            assert asking.recv(100).startswith(b"HTTP/1.1 200 ")
        wait_until(
            lambda: "room" in closed(web, "connection.closed"),
            deadline_seconds=30,
            what="the log tells of those that made room",
        )


def test_there_are_fewer_than_files_that_may_be_open(settings: Settings, monkeypatch):
    """As many as this user may open, less what a process opens beside them."""
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
    """How much memory it has taken at most since it began."""
    told = Path(f"/proc/{web.process.pid}/status").read_text(encoding="utf-8")
    return int(told.partition("VmHWM:")[2].split()[0]) // 1024


def test_requests_that_do_not_wait_for_answers_take_no_memory(impatient: ShortTimeoutServer):
    """However many are sent on a connection, unread too, a process keeps few of them, and others
    are served; all that are read are answered, each in its turn.
    """
    web, key = impatient
    before = memory_mb(web)
    body = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 300_000
    for asks in (HEALTHZ * 100_000, b"GET /\r\n\r\n" * 300_000, HEALTHZ * 200 + body * 10):
        with closing(connected(web)) as deaf:
            deaf.settimeout(0.3)
            with suppress(TimeoutError, ConnectionError):
                deaf.sendall(asks)
            for _ in range(30):
                assert httpx.get(f"{web.url}/healthz").status_code == 200
    with closing(connected(web)) as honest:
        honest.settimeout(20)
        unknown = b"GET /unknown HTTP/1.1\r\nHost: x\r\n\r\n"
        json_type = b"Content-Type: application/json\r\n"
        small = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n" + key + json_type
        chunked = (
            small + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2_000 + b"0\r\n\r\n"
        )
        whole = small + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000
        last = HEALTHZ[:-2] + b"Connection: close\r\n\r\n"
        honest.sendall((HEALTHZ + unknown) * 100 + chunked + whole + last)
        received = b"".join(iter(partial(honest.recv, 65_536), b""))
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
def test_what_came_whole_is_answered_before_the_end(impatient: ShortTimeoutServer, last: bytes):
    """Where what follows is no request, or another protocol, it ends only the connection."""
    with closing(connected(impatient.web)) as asking:
        asking.sendall(HEALTHZ * 3 + last)
        received = sent_slowly(asking, b"")
    statuses = [answer[:3] for answer in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200"] * 4
    assert received.count(b"connection: close") == 1
