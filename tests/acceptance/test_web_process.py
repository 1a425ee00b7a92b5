"""The web process as the Procfile starts it: how it begins, serves, loses its servers and ends."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import psutil
import pytest

from db import sweeps
from db.pool import open_pool
from producers.one_click import one_click_url
from producers.submit import submit
from runtime.devservers.embedded import ServerUrls
from runtime.devservers.process import command_line
from runtime.events import EVENTS
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.conftest import NewDatabase, settings_for
from tests.kit.factories import fill
from tests.kit.log_lines import undeclared_keys
from tests.kit.servers import process_role_url
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.web_process import WebGroup, create_key_headers
from web.server_protocol import MAX_HEADER_BYTES

ENDS_SECONDS = 9
"""More than requests under way are given, and less than `sluice up` gives a process."""


class Shared(NamedTuple):
    """A web process, and the settings that lead to its database."""

    settings: Settings
    web: WebGroup


@pytest.fixture(scope="module")
async def shared(
    servers: ServerUrls, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Shared]:
    """A web process that every test finds serving, and leaves so. A key follows one job there."""
    async with new_database() as url:
        settings = settings_for(servers.redis_url, process_role_url(url))
        log = tmp_path_factory.mktemp("shared") / "web.log"
        with WebGroup(settings, log, MAX_CONCURRENT_STREAMS="1") as web:
            yield Shared(settings, web.serving())


def test_one_process_or_two_serve_and_write_declared_lines(settings: Settings, tmp_path: Path):
    """Both answer at the port; SIGTERM, twice and to the group, ends all of them in seconds; the
    log has nothing but declared events.
    """
    for processes in (1, 2):
        log = tmp_path / f"web-{processes}.log"
        with WebGroup(settings, log, WEB_PROCESSES=str(processes)) as web:
            with web.serving().client() as client:
                assert client.get("/readyz").json() == {"status": "ready"}
                assert client.get("/nothing?like=this").status_code == 404
            # A master has a tracker of what its processes share, beside them.
            assert len(web.members()) >= processes
            web.signal_all(signal.SIGTERM)
            web.signal_all(signal.SIGTERM)
            web.wait_gone(deadline_seconds=ENDS_SECONDS)
            events = web.events()
        ends = {"web.started", "web.stopped"}
        assert {event["event"] for event in events} == {"request.answered"} | ends
        assert len({event["web"] for event in events}) == processes
        for event in events:
            assert event["event"] in EVENTS
            assert not undeclared_keys(event["event"], event)
        assert "like" not in log.read_text()


async def test_work_without_a_worker_is_logged(
    settings: Settings, pool: asyncpg.Pool, tmp_path: Path
):
    """When opt-outs wait and no worker runs, one of the web processes says so, with what waits and
    for how long, as an error, and again in each period; once a worker has measured, that it is
    over.
    """
    log = tmp_path / "web.log"
    with WebGroup(settings, log, WEB_PROCESSES="2", UNATTENDED_SECONDS="1") as web:
        web.serving()

        def told(event: str) -> list[dict[str, Any]]:
            return [line for line in web.events() if line["event"] == event]

        for _ in range(3):
            await submit(
                pool,
                settings,
                JobRequest(action="opt_out", selection=Selection(all=True), requested_by="test"),
            )
        await wait_until_async(
            lambda: len(told("queue.unattended")) >= 2, deadline_seconds=10, what="it is said"
        )
        for line in told("queue.unattended"):
            assert (line["level"], line["pending_chunks"], line["planning_jobs"]) == ("error", 3, 3)
            assert line["unattended_for_seconds"] > 1
            assert not undeclared_keys(line["event"], line)

        async def attended() -> bool:
            async with pool.acquire() as connection:
                await sweeps.try_begin_queue_stats(connection, 0)
            return bool(told("queue.attended"))

        await wait_until_async(attended, deadline_seconds=10, what="it is said that it is over")
        assert not told("web.task_failed")


def test_a_web_process_that_is_killed_is_replaced(settings: Settings, tmp_path: Path):
    """Of several; the others serve meanwhile, and the program goes on."""

    def serving_ids() -> set[int]:
        return {p.pid for p in web.members() if "spawn_main" in " ".join(command_line(p))}

    with WebGroup(settings, tmp_path / "web.log", WEB_PROCESSES="2") as web:
        web.serving()
        before = serving_ids()
        assert len(before) == 2
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        wait_until(
            lambda: killed not in serving_ids() and len(serving_ids()) == 2,
            deadline_seconds=30,
            what="another process has its place",
        )
        with web.client() as client:
            assert client.get("/readyz").is_success
        assert web.process.poll() is None


def test_requests_under_way_do_not_keep_it(settings: Settings, tmp_path: Path):
    """One that has not sent its body, one that waits for the end of a job and a stream of its
    events end with it; the stream's line is written at its end.
    """
    headers = create_key_headers(settings)
    with WebGroup(settings, tmp_path / "web.log") as web:
        with web.serving().client(headers=headers) as client:
            body = {"action": "opt_out", "selection": {"all": True}}
            job = client.post("/v1/jobs", json=body).json()["id"]
        with (
            closing(socket.create_connection(("127.0.0.1", web.port))) as slow,
            ThreadPoolExecutor(1) as other,
            web.client(headers=headers) as client,
            client.stream("GET", f"/v1/jobs/{job}/events") as stream,
        ):
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            slow.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            waiting = other.submit(
                httpx.get,
                f"{web.url}/v1/jobs/{job}",
                headers={**headers, "Prefer": "wait=25"},
                timeout=40,
            )
            wait_until(
                lambda: len(psutil.Process(web.process.pid).net_connections()) >= 4,
                deadline_seconds=10,
                what="all are connected",
            )
            assert not web.list_statuses("/v1/jobs/{job_id}/events")
            web.signal_all(signal.SIGTERM)
            web.signal_all(signal.SIGTERM)
            web.wait_gone(deadline_seconds=ENDS_SECONDS)
            assert waiting.result().status_code == 200
            assert list(parts) == []
        assert web.list_statuses("/v1/jobs/{job_id}/events") == [200]
        assert not any("Traceback" in line for line in web.lines())
        web.events()


def test_a_client_that_leaves_is_logged(shared: Shared):
    """It is written soon, and is no error: a stream's with what was sent, and 0 for one who left in
    the middle of a body; nothing goes on for nobody.
    """
    web = shared.web
    headers = create_key_headers(shared.settings)
    before = len(web.lines())
    with web.client(headers=headers) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            assert next(stream.iter_text()).startswith("event: progress")
    wait_until(
        lambda: web.list_statuses("/v1/jobs/{job_id}/events", after=before) == [200],
        deadline_seconds=10,
        what="the stream has its line",
    )
    lines = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
    with closing(socket.create_connection(("127.0.0.1", web.port))) as leaving:
        leaving.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n{lines}\r\nContent-Length: 9\r\n"
            "Content-Type: application/json\r\n\r\n{".encode()
        )
    wait_until(
        lambda: web.list_statuses("/v1/jobs", after=before) == [202, 0],
        deadline_seconds=10,
        what="who left in the middle has a line",
    )
    assert {event["level"] for event in web.events()[before:]} == {"info"}


def test_an_api_key_has_a_maximum_of_streams(shared: Shared):
    """One more stream than that is refused, with when to come again; another key's is not, and one
    whose client has left has its place free.
    """
    headers, others = create_key_headers(shared.settings), create_key_headers(shared.settings)
    with shared.web.client(headers=headers) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        path = f"/v1/jobs/{job}/events"

        def followed(headers: dict[str, str]) -> int:
            with client.stream("GET", path, headers=headers) as stream:
                return stream.status_code

        with client.stream("GET", path) as stream:
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            refused = client.get(path)
            assert refused.json()["type"] == "urn:sluice:problem:too-many-requests"
            assert int(refused.headers["Retry-After"]) > 0
            assert followed(others) == 200
        wait_until(
            lambda: followed(headers) == 200,
            deadline_seconds=10,
            what="the place of who has left is free",
        )


def answer_on(connection: socket.socket) -> bytes:
    """The next answer, which has a JSON object as its body."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(10_000)
    return received


@pytest.mark.parametrize("begins", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: "])
def test_a_head_that_does_not_end_is_refused(shared: Shared, begins: bytes):
    """Neither a path nor a header may go on for ever: 431 and the end of the connection, long
    before memory is full; ordinary requests are served meanwhile, on connections that last.
    """
    web = shared.web
    with (
        web.client() as client,
        closing(socket.create_connection(("127.0.0.1", web.port))) as endless,
    ):
        endless.settimeout(20)
        endless.sendall(begins)
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                sent += endless.send(b"a" * 10_000)
        assert sent < 100_000_000
        with closing(socket.create_connection(("127.0.0.1", web.port))) as slow:
            slow.settimeout(20)
            slow.sendall(begins)
            assert client.get("/healthz").status_code == 200
            # Little enough for all of it to be read before the connection ends.
            slow.sendall(b"a" * (MAX_HEADER_BYTES + 1))
            answer = answer_on(slow)
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert b"urn:sluice:problem:headers-too-large" in answer
            assert slow.recv(1) == b""
        for length in (10, 60_000):
            assert client.get("/healthz", headers={"x-long": "a" * length}).status_code == 200
        large = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Long: "
        body = b"\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        again = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        with closing(socket.create_connection(("127.0.0.1", web.port))) as patient:
            patient.settimeout(20)
            patient.sendall(large)
            assert client.get("/healthz").status_code == 200
            patient.sendall(b"a" * 60_000)
            assert client.get("/healthz").status_code == 200
            patient.sendall(body)
            assert answer_on(patient).startswith(b"HTTP/1.1 401 ")
            patient.sendall(again)
            assert answer_on(patient).startswith(b"HTTP/1.1 200 ")


def test_a_body_does_not_count_as_head(shared: Shared):
    """However a network cuts them into parts, bytes of a body do not make its head too large."""
    with (
        shared.web.client() as client,
        closing(socket.create_connection(("127.0.0.1", shared.web.port))) as cut,
    ):
        cut.settimeout(20)
        for part in (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n", b"X-Long: " + b"a" * 60_000):
            cut.sendall(part)
            assert client.get("/healthz").status_code == 200
        cut.sendall(b"\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
        assert answer_on(cut).startswith(b"HTTP/1.1 401 ")


def test_a_large_head_in_one_piece_is_refused_too(shared: Shared):
    """One that is too large, or names no host or two, is refused with its kind of problem."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x.example:80\r\n"
    large = b"urn:sluice:problem:headers-too-large"
    malformed = b"urn:sluice:problem:malformed"
    for head, answered in (
        (one + b"\r\n", b'"ok"'),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b'"ok"'),
        (b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", b'"ok"'),
        (one + b"X-Long: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n", large),
        (one + b"X: y\r\n" * 12_000 + b"\r\n", large),
        (b"GET /" + b"a" * MAX_HEADER_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", large),
        (one + b"Host: x.example:80\r\n\r\n", malformed),
        (b"GET /healthz HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n", malformed),
        (b"GET /healthz HTTP/1.1\r\n\r\n", malformed),
        (b"GET /healthz HTTP/1.1\r\nHost: x/y?\r\n\r\n", malformed),
        (b"GET /healthz HTTP/1.1\r\nHost: a@b\r\n\r\n", malformed),
        (b"GET /healthz HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", malformed),
        (b"nothing at all\r\n\r\n", malformed),
    ):
        with closing(socket.create_connection(("127.0.0.1", shared.web.port))) as asking:
            asking.settimeout(20)
            asking.sendall(head)
            assert answered in answer_on(asking), head[:80]
            if answered != b'"ok"':
                assert asking.recv(1) == b""


def test_what_trails_a_body_ends_as_well(shared: Shared):
    """A body in chunks may be of any number of them; headers after it that go on for ever end the
    connection, long before memory is full.
    """
    (key,) = create_key_headers(shared.settings).values()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunks = b"400\r\n" + b" " * 0x400 + b"\r\n"
    address = ("127.0.0.1", shared.web.port)
    with closing(socket.create_connection(address)) as ending:
        ending.settimeout(20)
        ending.sendall(head + chunks * 200 + b"1\r\n7\r\n0\r\nX-Short: a\r\n\r\n")
        assert answer_on(ending).startswith(b"HTTP/1.1 422 ")
    with closing(socket.create_connection(address)) as endless:
        endless.settimeout(20)
        endless.sendall(head + chunks + b"0\r\nX-Long: ")
        sent = 0
        with suppress(ConnectionError):
            while sent < 100_000_000:
                sent += endless.send(b"a" * 10_000)
        assert sent < 100_000_000


ONE_CLICKS = (
    b"\r\n",
    b"Content-Length: 0\r\n\r\n",
    b"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\n\xff\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nList-\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nno chunk",
    b"Expect: 100-continue\r\nContent-Length: 11\r\n\r\nconfirm=yes",
    b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx",
    b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
    b"Content-Length: 100\r\n\r\nList-Unsubscribe",
    b"Content-Length: 100000000\r\n\r\nList-Unsubscribe",
)
"""What follows the first line and the host of a POST to an unsubscribe link."""


def test_any_one_click_opts_out_however_its_body_comes(shared: Shared):
    """In chunks, broken ones too, without an end, of another encoding, announced as too large."""
    settings = shared.settings

    async def applied() -> set[str]:
        async with await open_pool(settings.database_url or "", size=1) as pool:
            rows = await pool.fetch("select match_key from email_addresses where status > 'system'")
            return {row[0] for row in rows}

    async def make() -> dict[str, str]:
        async with await open_pool(settings.database_url or "", size=1) as pool:
            people = {n: {1: f"p{n}@x.example"} for n in range(1, len(ONE_CLICKS) + 1)}
            addresses = [links[1] for links in people.values()]
            await fill(pool, 1, people, dict.fromkeys(addresses, ("single_opt_in", False)))
            rows = await pool.fetch("select match_key, id from email_addresses")
            return {row[0]: one_click_url(settings, "", 1, row[1]) for row in rows}

    links = asyncio.run(make())
    for (_, link), rest in zip(sorted(links.items()), ONE_CLICKS, strict=True):
        with closing(socket.create_connection(("127.0.0.1", shared.web.port))) as clicking:
            clicking.sendall(f"POST {link}) HTTP/1.1\r\nHost: x\r\n".encode() + rest)
            clicking.shutdown(socket.SHUT_WR)
    wait_until(
        lambda: asyncio.run(applied()) == set(links),
        deadline_seconds=20,
        what="all of them are opted out",
    )


def test_a_failed_start_is_explained(settings: Settings, tmp_path: Path):
    """A port that is taken, and a signing key that is missing: exit status 1 and no traceback."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        with WebGroup(settings, tmp_path / "taken.log", PORT=port) as web:
            assert web.process.wait(90) == 1
            event, sentence = web.lines()
            assert sentence.startswith(f"Cannot listen on 127.0.0.1:{port}: ")
            assert json.loads(event)["message"] == sentence
    with WebGroup(settings, tmp_path / "unsigned.log", SIGNING_KEYS="") as web:
        assert web.process.wait(90) == 1
        event, sentence = web.lines()
        assert sentence.startswith("SIGNING_KEYS is not set")
        assert json.loads(event)["exit_status"] == 1
