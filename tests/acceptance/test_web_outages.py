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
from tests.acceptance.conftest import StartWeb
from tests.conftest import settings_for
from tests.kit.folders import server_folder
from tests.kit.log_lines import undeclared_keys
from tests.kit.servers import ChaosServers, chaos_servers, grant_process_role, process_role_url
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.web_process import WebGroup, create_key_headers
from web.app import create_app
from web.middleware import timeout
from web.routes import health


@pytest.fixture(scope="module")
def own_servers() -> Iterator[ChaosServers]:
    """Run servers that these tests may stop."""
    with server_folder() as folder, chaos_servers(folder / "servers") as servers:
        asyncio.run(migrate(servers.database_url))
        asyncio.run(grant_process_role(servers.database_url))
        yield servers


@pytest.fixture
def outage_settings(own_servers: ChaosServers) -> Iterator[Settings]:
    """Return settings for these servers; afterwards start again what a test stopped."""
    yield settings_of(own_servers)
    own_servers.start_redis()
    own_servers.start_postgres()


def settings_of(servers: ChaosServers) -> Settings:
    """Return settings for these servers with the role of processes."""
    return settings_for(servers.redis_url, process_role_url(servers.database_url))


@pytest.fixture(scope="module")
def outage_web(
    own_servers: ChaosServers, start_web: StartWeb, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebGroup]:
    """Run a web process on these servers; it has to survive every test."""
    log = tmp_path_factory.mktemp("fragile") / "web.log"
    with start_web(settings_of(own_servers), log) as web:
        yield web.serving()


def test_postgres_may_be_restarted(
    outage_settings: Settings, outage_web: WebGroup, own_servers: ChaosServers
):
    """During the outage requests are answered 503 within seconds, with Retry-After. Afterwards the
    same process serves them again.
    """
    web = outage_web
    before = len(web.lines())
    with web.client(headers=create_key_headers(outage_settings)) as client:
        assert client.get("/v1/jobs").status_code == 200
        own_servers.crash_postgres()
        for path in ("/v1/jobs", "/readyz", "/scale"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["type"]) == (
                503,
                "urn:sluice:problem:unavailable",
            )
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.elapsed.total_seconds() < 10
        assert client.get("/healthz").status_code == 200
        own_servers.start_postgres()
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
            what="the outage and its end are logged once",
        )
        assert not any(event["level"] == "error" for event in web.events()[before:])


def test_a_stream_breaks_off_with_postgres(
    outage_settings: Settings, outage_web: WebGroup, own_servers: ChaosServers
):
    """A client that follows a job sees that the stream was cut off. The log line says so, and it is
    no error.
    """
    web = outage_web
    before = len(web.lines())
    with web.client(headers=create_key_headers(outage_settings)) as client:
        body = {"action": "opt_out", "selection": {"all": True}}
        job = client.post("/v1/jobs", json=body).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/events") as stream:
            parts = stream.iter_text()
            assert next(parts).startswith("event: progress")
            own_servers.crash_postgres()
            with pytest.raises(httpx.RemoteProtocolError):
                list(parts)
        wait_until(
            lambda: web.list_statuses("/v1/jobs/{job_id}/events", after=before) == [200],
            deadline_seconds=10,
            what="the stream is logged",
        )
        events = web.events()[before:]
        assert [event["route"] for event in events if event.get("aborted")] == [
            "/v1/jobs/{job_id}/events"
        ]
        names = {event["event"] for event in events} - {"database.unreachable"}
        assert names == {"request.answered", "job.submitted"}


def test_jobs_are_accepted_while_redis_is_down(
    outage_settings: Settings, own_servers: ChaosServers, start_web: StartWeb, tmp_path: Path
):
    """A job is stored and answered as usual, and the sweeper will find it. The log says once that
    Redis is down, and, without another request, that it is back.
    """
    headers = create_key_headers(outage_settings)
    own_servers.kill_redis()
    with (
        start_web(outage_settings, tmp_path / "web.log") as web,
        web.serving().client(headers=headers) as client,
    ):
        body = {"action": "opt_out", "selection": {"all": True}}
        answer = client.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["state"]) == (202, "planning")
        assert client.get("/readyz").status_code == 200
        assert outages_of_queue(web) == ["queue.unreachable"]
        own_servers.start_redis()
        wait_until(
            lambda: outages_of_queue(web) == ["queue.unreachable", "queue.recovered"],
            deadline_seconds=20,
            what="the recovery is logged",
        )


def outages_of_queue(web: WebGroup) -> list[str]:
    """Return the queue events of the log, and assert that their lines have only declared keys."""
    events = [event for event in web.events() if event["event"].startswith("queue.")]
    assert not any(undeclared_keys(event["event"], event.keys() - {"web"}) for event in events)
    return [event["event"] for event in events]


async def test_a_postgres_that_hangs_is_not_waited_for(
    outage_settings: Settings, own_servers: ChaosServers, monkeypatch: pytest.MonkeyPatch
):
    """While the processes of Postgres are stopped, every request is answered 503 in time, however
    many there are. When they continue, the web process recovers.
    """
    monkeypatch.setattr(timeout, "RESPONSE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(health, "READY_TIMEOUT_SECONDS", 0.5)
    app = create_app(outage_settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        api_key = await create_key(
            app.state.sluice.pool, account="default", name="test", scopes=list(Scope)
        )
        client.headers["Authorization"] = f"Bearer {api_key.secret}"

        async def statuses_of_many() -> set[int]:
            responses = await asyncio.gather(
                *(client.get(path) for path in ("/v1/jobs", "/readyz") * 6)
            )
            return {answer.status_code for answer in responses}

        assert await statuses_of_many() == {200}
        postgres = await processes_of_postgres(app.state.sluice.pool)
        for process in postgres:
            # A session may have ended since the processes were listed.
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
    """Return the server's main process, followed by its children."""
    server = psutil.Process(await pool.fetchval("select pg_backend_pid()")).parent()
    assert server is not None
    return [server, *server.children(recursive=True)]
