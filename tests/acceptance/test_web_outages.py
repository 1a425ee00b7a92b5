"""The web process serves what it can while Postgres or Redis is down, and recovers by itself."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from db.migrate import migrate
from producers.keys import Scope, create_key
from runtime.settings import Settings
from tests.conftest import settings_for
from tests.kit.folders import server_folder
from tests.kit.log_lines import undeclared_keys
from tests.kit.servers import ChaosServers, chaos_servers, grant_process_role, process_role_url
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.web_process import WebGroup, create_key_headers
from web.app import create_app
from web.middleware import timeout
from web.routes import operation


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


def test_postgres_may_be_restarted(
    fragile: Settings, fragile_web: WebGroup, servers_of_its_own: ChaosServers
):
    """Meanwhile whoever asks is told in seconds to come again; then the same process answers."""
    web = fragile_web
    before = len(web.lines())
    with web.client(headers=create_key_headers(fragile)) as client:
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
    with web.client(headers=create_key_headers(fragile)) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            servers_of_its_own.crash_postgres()
            with pytest.raises(httpx.RemoteProtocolError):
                list(parts)
        wait_until(
            lambda: web.list_statuses("/v1/jobs/{job_id}/events", after=before) == [200],
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
    headers = create_key_headers(fragile)
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
