"""The web process as the Procfile starts it: start, requests, lost clients and shutdown."""

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
from tests.acceptance.conftest import StartWeb
from tests.conftest import NewDatabase, settings_for
from tests.kit.factories import fill
from tests.kit.log_lines import undeclared_keys
from tests.kit.servers import process_role_url
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.web_process import WebGroup, create_key_headers
from web.server_protocol import MAX_HEADER_BYTES

ENDS_SECONDS = 9
"""More than running requests get to finish, and less than `sluice up` gives a process."""


class Shared(NamedTuple):
    """A web process, and the settings for its database."""

    settings: Settings
    web: WebGroup


@pytest.fixture(scope="module")
async def shared(
    servers: ServerUrls,
    new_database: NewDatabase,
    start_web: StartWeb,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Shared]:
    """Run a web process that all tests share. An API key may have one stream there."""
    async with new_database() as url:
        settings = settings_for(servers.redis_url, process_role_url(url))
        log = tmp_path_factory.mktemp("shared") / "web.log"
        with start_web(settings, log, MAX_CONCURRENT_STREAMS="1") as web:
            yield Shared(settings, web.serving())


def test_one_process_or_two_serve_and_write_declared_lines(settings: Settings, tmp_path: Path):
    """Each process answers on the port. SIGTERM, sent twice to the group, ends all of them within
    seconds. The log has only declared events.
    """
    for processes in (1, 2):
        log = tmp_path / f"web-{processes}.log"
        with WebGroup(settings, log, WEB_PROCESSES=str(processes)) as web:
            with web.serving().client() as client:
                assert client.get("/readyz").json() == {"status": "ready"}
                assert client.get("/nothing?like=this").status_code == 404
            # A master also runs a resource tracker for its processes.
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
    """If opt-outs wait and no worker runs, one web process logs an error in each period, with how
    much waits and for how long. Once a worker has measured the queue, it logs that this is over.
    """
    log = tmp_path / "web.log"
    with WebGroup(settings, log, WEB_PROCESSES="2", UNATTENDED_SECONDS="1") as web:
        web.serving()

        def find_events(event: str) -> list[dict[str, Any]]:
            return [line for line in web.events() if line["event"] == event]

        for _ in range(3):
            await submit(
                pool,
                settings,
                JobRequest(action="opt_out", selection=Selection(all=True), requested_by="test"),
            )
        await wait_until_async(
            lambda: len(find_events("queue.unattended")) >= 2,
            deadline_seconds=10,
            what="the error is logged",
        )
        for line in find_events("queue.unattended"):
            assert (line["level"], line["pending_chunks"], line["planning_jobs"]) == ("error", 3, 3)
            assert line["unattended_for_seconds"] > 1
            assert not undeclared_keys(line["event"], line)

        async def attended() -> bool:
            async with pool.acquire() as connection:
                await sweeps.try_begin_queue_stats(connection, 0)
            return bool(find_events("queue.attended"))

        await wait_until_async(attended, deadline_seconds=10, what="the end is logged")
        assert not find_events("web.task_failed")


def test_a_web_process_that_is_killed_is_replaced(settings: Settings, tmp_path: Path):
    """If one of several is killed, the others serve requests until it is replaced, and the master
    continues.
    """

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
            what="the process is replaced",
        )
        with web.client() as client:
            assert client.get("/readyz").is_success
        assert web.process.poll() is None


def test_running_requests_do_not_delay_the_shutdown(
    settings: Settings, start_web: StartWeb, tmp_path: Path
):
    """A request without its body, one that waits for a job and a stream of events all end on
    SIGTERM. The stream's log line is written at its end.
    """
    headers = create_key_headers(settings)
    with start_web(settings, tmp_path / "web.log") as web:
        with web.serving().client(headers=headers) as client:
            body = {"action": "opt_out", "selection": {"all": True}}
            job = client.post("/v1/jobs", json=body).json()["id"]
        with (
            closing(socket.create_connection(("127.0.0.1", web.port))) as slow,
            ThreadPoolExecutor(1) as executor,
            web.client(headers=headers) as client,
            client.stream("GET", f"/v1/jobs/{job}/events") as stream,
        ):
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            slow.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            waiting = executor.submit(
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
    """The log line of a lost client is written soon, and is no error. A stream's line has its
    status; an incomplete request has status 0. No work goes on for that client.
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
        what="the stream is logged",
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
        what="the client that left in mid-body is logged",
    )
    assert {event["level"] for event in web.events()[before:]} == {"info"}


def test_an_api_key_has_a_maximum_of_streams(shared: Shared):
    """One stream more than the maximum is answered 429 with Retry-After. Another key has its own
    limit, and a client that leaves frees its place.
    """
    headers, other_headers = (
        create_key_headers(shared.settings),
        create_key_headers(shared.settings),
    )
    with shared.web.client(headers=headers) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        path = f"/v1/jobs/{job}/events"

        def stream_status(headers: dict[str, str]) -> int:
            with client.stream("GET", path, headers=headers) as stream:
                return stream.status_code

        with client.stream("GET", path) as stream:
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            refused = client.get(path)
            assert refused.json()["type"] == "urn:sluice:problem:too-many-requests"
            assert int(refused.headers["Retry-After"]) > 0
            assert stream_status(other_headers) == 200
        wait_until(
            lambda: stream_status(headers) == 200,
            deadline_seconds=10,
            what="the place of the client that left is free",
        )


def receive_answer(connection: socket.socket) -> bytes:
    """Receive the next answer, whose body is a JSON object."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(10_000)
    return received


@pytest.mark.parametrize("begins", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: "])
def test_an_endless_head_is_rejected(shared: Shared, begins: bytes):
    """An endless path or header is answered 431 and the connection is closed, long before memory is
    full. Ordinary requests are served in the meantime, on connections that stay open.
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
            # Small enough to be read completely before the connection ends.
            slow.sendall(b"a" * (MAX_HEADER_BYTES + 1))
            answer = receive_answer(slow)
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
            assert receive_answer(patient).startswith(b"HTTP/1.1 401 ")
            patient.sendall(again)
            assert receive_answer(patient).startswith(b"HTTP/1.1 200 ")


def test_a_body_does_not_count_as_head(shared: Shared):
    """The bytes of a body do not count towards the head's limit, however a network splits them."""
    with (
        shared.web.client() as client,
        closing(socket.create_connection(("127.0.0.1", shared.web.port))) as cut,
    ):
        cut.settimeout(20)
        for part in (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\n", b"X-Long: " + b"a" * 60_000):
            cut.sendall(part)
            assert client.get("/healthz").status_code == 200
        cut.sendall(b"\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
        assert receive_answer(cut).startswith(b"HTTP/1.1 401 ")


def test_a_large_head_in_one_piece_is_rejected_too(shared: Shared):
    """A head that is too large, or does not name exactly one valid host, is answered with its
    problem type.
    """
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
            assert answered in receive_answer(asking), head[:80]
            if answered != b'"ok"':
                assert asking.recv(1) == b""


def test_endless_trailers_end_the_connection(shared: Shared):
    """A chunked body may have any number of chunks. Endless trailers after it end the connection,
    long before memory is full.
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
        assert receive_answer(ending).startswith(b"HTTP/1.1 422 ")
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
"""What follows the request line and the Host header of a POST to a one-click link."""


def test_any_one_click_opts_out_whatever_its_body(shared: Shared):
    """Bodies may be chunked, malformed, incomplete, encoded or announced as too large."""
    settings = shared.settings

    async def applied() -> set[str]:
        async with await open_pool(settings.database_url or "", size=1) as pool:
            rows = await pool.fetch("select match_key from email_addresses where status > 'system'")
            return {row[0] for row in rows}

    async def make() -> dict[str, str]:
        async with await open_pool(settings.database_url or "", size=1) as pool:
            contacts = {n: {1: f"p{n}@x.example"} for n in range(1, len(ONE_CLICKS) + 1)}
            addresses = [links[1] for links in contacts.values()]
            await fill(pool, 1, contacts, dict.fromkeys(addresses, ("single_opt_in", False)))
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
    """A port in use or a missing signing key gives exit status 1, a message and no traceback."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = str(listener.getsockname()[1])
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
