"""The web process as the Procfile starts it: how it begins, serves, loses its servers and ends."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import psutil
import pytest

from db import sweeps
from db.migrate import migrate
from db.pool import open_pool
from producers.keys import Scope, create_key
from producers.one_click import one_click_url
from producers.submit import submit
from runtime.devservers.embedded import ServerUrls
from runtime.devservers.process import command_line
from runtime.event_keys import undeclared_keys
from runtime.events import EVENTS
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.conftest import NewDatabase, settings_for
from tests.kit.factories import fill
from tests.kit.folders import server_folder
from tests.kit.servers import ChaosServers, chaos_servers, grant_process_role, process_role_url
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.web_process import WebGroup
from web.app import create_app
from web.middleware import timeout
from web.routes import operation
from web.server_protocol import MAX_HEADER_BYTES

ENDS_SECONDS = 9
"""More than requests under way are given, and less than `sluice up` gives a process."""


class Shared(NamedTuple):
    """A web process, and the settings that lead to its database."""

    settings: Settings
    web: WebGroup


@pytest.fixture(scope="module")
def servers_of_its_own() -> Iterator[ChaosServers]:
    """Servers that these tests may stop."""
    with server_folder() as folder, chaos_servers(folder / "servers") as servers:
        asyncio.run(migrate(servers.database_url))
        asyncio.run(grant_process_role(servers.database_url))
        yield servers


@pytest.fixture
def fragile(servers_of_its_own: ChaosServers) -> Iterator[Settings]:
    """Settings that lead to them; whatever a test took down is up again afterwards."""
    yield settings_of(servers_of_its_own)
    servers_of_its_own.start_redis()
    servers_of_its_own.start_postgres()


def settings_of(servers: ChaosServers) -> Settings:
    """Settings that lead to these servers, by the role of processes."""
    return settings_for(servers.redis_url, process_role_url(servers.database_url))


@pytest.fixture(scope="module")
def fragile_web(
    servers_of_its_own: ChaosServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebGroup]:
    """A web process on them, which outlives what is done to them."""
    log = tmp_path_factory.mktemp("fragile") / "web.log"
    with WebGroup(settings_of(servers_of_its_own), log) as web:
        yield web.serving()


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


def key_of(settings: Settings) -> dict[str, str]:
    """The header of a request by a key that may do everything."""

    async def make() -> str:
        async with await open_pool(settings.database_url or "", size=1) as pool:
            made = await create_key(pool, account="default", name="test", scopes=list(Scope))
            return made.token

    return {"Authorization": f"Bearer {asyncio.run(make())}"}


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


async def test_work_that_no_worker_comes_for_is_told(
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
    headers = key_of(settings)
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
            assert not answered(web, "/v1/jobs/{job_id}/events")
            web.signal_all(signal.SIGTERM)
            web.signal_all(signal.SIGTERM)
            web.wait_gone(deadline_seconds=ENDS_SECONDS)
            assert waiting.result().status_code == 200
            assert list(parts) == []
        assert answered(web, "/v1/jobs/{job_id}/events") == [200]
        assert not any("Traceback" in line for line in web.lines())
        web.events()


def answered(web: WebGroup, route: str, *, after: int = 0) -> list[int]:
    """The statuses of the lines that the route's requests have by now, `after` so many lines."""
    return [event["http_status"] for event in web.events()[after:] if event.get("route") == route]


def test_who_leaves_has_a_line(shared: Shared):
    """It is written soon, and is no error: a stream's with what was sent, and 0 for one who left in
    the middle of a body; nothing goes on for nobody.
    """
    web = shared.web
    headers = key_of(shared.settings)
    before = len(web.lines())
    with web.client(headers=headers) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            assert next(stream.iter_text()).startswith("event: progress")
    wait_until(
        lambda: answered(web, "/v1/jobs/{job_id}/events", after=before) == [200],
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
        lambda: answered(web, "/v1/jobs", after=before) == [202, 0],
        deadline_seconds=10,
        what="who left in the middle has a line",
    )
    assert {event["level"] for event in web.events()[before:]} == {"info"}


def test_a_key_follows_so_many_jobs_at_a_time(shared: Shared):
    """One more stream than that is refused, with when to come again; another key's is not, and one
    whose client has left has its place free.
    """
    headers, others = key_of(shared.settings), key_of(shared.settings)
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


def test_a_body_that_comes_with_the_end_of_its_head_is_none_of_it(shared: Shared):
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


def test_a_head_that_comes_whole_is_refused_alike(shared: Shared):
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
    (key,) = key_of(shared.settings).values()
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


def test_what_keeps_it_from_starting_is_told_in_a_sentence(settings: Settings, tmp_path: Path):
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


def test_postgres_may_be_restarted(
    fragile: Settings, fragile_web: WebGroup, servers_of_its_own: ChaosServers
):
    """Meanwhile whoever asks is told in seconds to come again; then the same process answers."""
    web = fragile_web
    before = len(web.lines())
    with web.client(headers=key_of(fragile)) as client:
        assert client.get("/v1/jobs").status_code == 200
        servers_of_its_own.crash_postgres()
        for path in ("/v1/jobs", "/readyz", "/scale"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["type"]) == (
                503,
                "urn:sluice:problem:unavailable",
            )
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.elapsed.total_seconds() < 10
        assert client.get("/healthz").status_code == 200
        servers_of_its_own.start_postgres()
        wait_until(
            lambda: client.get("/readyz").status_code == 200,
            deadline_seconds=20,
            what="it is ready again",
        )
        assert client.get("/v1/jobs").status_code == 200
        outage = ["database.unreachable", "database.recovered"]
        wait_until(
            lambda: [e["event"] for e in web.events()[before:] if e["event"] in outage] == outage,
            deadline_seconds=20,
            what="the outage is told once, and its end, by itself",
        )
        assert not any(event["level"] == "error" for event in web.events()[before:])


def test_a_stream_breaks_off_with_postgres(
    fragile: Settings, fragile_web: WebGroup, servers_of_its_own: ChaosServers
):
    """Who follows a job sees that the end is missing; that is no fault, and the line says it."""
    web = fragile_web
    before = len(web.lines())
    with web.client(headers=key_of(fragile)) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            servers_of_its_own.crash_postgres()
            with pytest.raises(httpx.RemoteProtocolError):
                list(parts)
        wait_until(
            lambda: answered(web, "/v1/jobs/{job_id}/events", after=before) == [200],
            deadline_seconds=10,
            what="the stream has its line",
        )
        events = web.events()[before:]
        assert [event["route"] for event in events if event.get("aborted")] == [
            "/v1/jobs/{job_id}/events"
        ]
        told = {event["event"] for event in events} - {"database.unreachable"}
        assert told == {"request.answered", "job.submitted"}


def test_jobs_are_taken_while_redis_is_away(
    fragile: Settings, servers_of_its_own: ChaosServers, tmp_path: Path
):
    """A job is stored, and will be found by the sweeper; the answer is as always. The log says once
    that Redis is away, and by itself that it is back.
    """
    headers = key_of(fragile)
    servers_of_its_own.kill_redis()
    with (
        WebGroup(fragile, tmp_path / "web.log") as web,
        web.serving().client(headers=headers) as client,
    ):
        body = {"action": "opt_out", "selection": {"all": True}}
        answer = client.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["state"]) == (202, "planning")
        assert client.get("/readyz").status_code == 200
        assert outages_of_queue(web) == ["queue.unreachable"]
        servers_of_its_own.start_redis()
        wait_until(
            lambda: outages_of_queue(web) == ["queue.unreachable", "queue.recovered"],
            deadline_seconds=20,
            what="it is said that Redis is back",
        )


def outages_of_queue(web: WebGroup) -> list[str]:
    """What its log says of them, each line with the keys that are declared and no other."""
    told = [event for event in web.events() if event["event"].startswith("queue.")]
    assert not any(undeclared_keys(event["event"], event.keys() - {"web"}) for event in told)
    return [event["event"] for event in told]


async def test_a_postgres_that_hangs_is_not_waited_for(
    fragile: Settings, servers_of_its_own: ChaosServers, monkeypatch: pytest.MonkeyPatch
):
    """While its processes are stopped everything is answered 503 in time, however many ask; when
    they go on, so does this process.
    """
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(operation, "READY_TIMEOUT_SECONDS", 0.5)
    app = create_app(fragile)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        made = await create_key(
            app.state.sluice.pool, account="default", name="test", scopes=list(Scope)
        )
        client.headers["Authorization"] = f"Bearer {made.token}"

        async def statuses_of_many() -> set[int]:
            asked = await asyncio.gather(
                *(client.get(path) for path in ("/v1/jobs", "/readyz") * 6)
            )
            return {answer.status_code for answer in asked}

        assert await statuses_of_many() == {200}
        postgres = await processes_of_postgres(app.state.sluice.pool)
        for process in postgres:
            # A session may have ended since they were looked for.
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            async with asyncio.timeout(10):
                assert await statuses_of_many() == {503}
                assert (await client.get("/healthz")).status_code == 200
        finally:
            for process in postgres:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await wait_until_async(ready, deadline_seconds=20, what="it is ready again")
        assert await statuses_of_many() == {200}


async def processes_of_postgres(pool: asyncpg.Pool) -> list[psutil.Process]:
    """The server's own process first, then those of its sessions and the others."""
    server = psutil.Process(await pool.fetchval("select pg_backend_pid()")).parent()
    assert server is not None
    return [server, *server.children(recursive=True)]
