"""Servers that go down and come back: workers wait for them, log it once, and go on."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from db.migrate import migrate
from db.pool import open_pool
from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.factories import fill_large_account, make_account
from tests.kit.folders import server_folder
from tests.kit.job_requests import submit_account_job, wait_for_state
from tests.kit.servers import ChaosServers, chaos_servers, grant_process_role, process_role_url
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.worker_group import WorkerGroup

AWAY_SECONDS = 4.0
"""Long enough for many attempts by each process. No code counts attempts, and chaos runs cover
longer outages.
"""

OUTAGES = ("queue.unreachable", "queue.recovered", "database.unreachable", "database.recovered")


@pytest.fixture(scope="module")
def own_servers() -> Iterator[ChaosServers]:
    """Run servers that the tests of this module may stop."""
    with server_folder() as folder, chaos_servers(folder / "servers") as servers:
        asyncio.run(migrate(servers.database_url))
        asyncio.run(grant_process_role(servers.database_url))
        yield servers


@pytest.fixture
def settings(own_servers: ChaosServers) -> Iterator[Settings]:
    """Return settings for these servers; afterwards start again what a test stopped."""
    yield Settings(
        database_url=process_role_url(own_servers.database_url), redis_url=own_servers.redis_url
    )
    own_servers.start_redis()
    own_servers.start_postgres()


@pytest.fixture
async def pool(own_servers: ChaosServers) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool on the servers of this module."""
    async with await open_pool(own_servers.database_url, size=3) as pool:
        yield pool


def count_outages(group: WorkerGroup, *, of: str | None = None) -> Counter:
    """Return how often each worker process logged an outage and its end."""
    lines = [json.loads(line) for line in group.lines() if line.startswith("{")]
    return Counter(
        (line["worker"], line["event"])
        for line in lines
        if line["event"] in OUTAGES and (of is None or line["event"].startswith(of))
    )


def wait_until_all_log(group: WorkerGroup, event: str, *, processes: int) -> None:
    """Wait until the log has the event once for each of the processes."""
    wait_until(
        lambda: sum(name == event for _, name in count_outages(group)) == processes,
        deadline_seconds=60,
        what=f"each process wrote {event}",
    )


async def let_time_pass(seconds: float) -> None:
    """Let real time pass, for a claim that nothing happens in that time."""
    ends = time.monotonic() + seconds
    await wait_until_async(
        lambda: time.monotonic() > ends, deadline_seconds=seconds + 30, what="time passed"
    )


async def test_workers_survive_an_outage_of_redis(
    pool: asyncpg.Pool, settings: Settings, own_servers: ChaosServers, start_group: StartGroup
):
    """Each process logs once that Redis is down and once that it is back, however often it tried.
    None of them ends, and a job submitted during the outage is completed.
    """
    await fill_large_account(pool, await make_account(pool, "redis"), 500)
    group = start_group(processes=2)
    own_servers.kill_redis()
    await asyncio.to_thread(wait_until_all_log, group, "queue.unreachable", processes=2)
    job_id = await submit_account_job(pool, settings, "redis", "opt_out", "email1")
    await let_time_pass(AWAY_SECONDS)
    own_servers.start_redis()
    await wait_for_state(pool, job_id, "completed")
    await asyncio.to_thread(wait_until_all_log, group, "queue.recovered", processes=2)
    assert set(count_outages(group).values()) == {1}
    assert len(count_outages(group, of="queue")) == 4
    assert not any("library.logged" in line for line in group.lines())
    assert group.process.poll() is None


async def test_workers_survive_an_outage_of_postgres(
    pool: asyncpg.Pool, settings: Settings, own_servers: ChaosServers, start_group: StartGroup
):
    """Each process logs once that Postgres is down and once that it is back. None of them ends, and
    the running job is completed.
    """
    await fill_large_account(pool, await make_account(pool, "postgres"), 30_000)
    group = start_group(processes=2, CHUNK_SIZE="100")
    job_id = await submit_account_job(pool, settings, "postgres", "opt_out", "email1")

    async def under_way() -> bool:
        return await pool.fetchval("select exists (select from results where job_id = $1)", job_id)

    await wait_until_async(under_way, deadline_seconds=30, what="the job is under way")
    own_servers.crash_postgres()
    await asyncio.to_thread(wait_until_all_log, group, "database.unreachable", processes=2)
    await let_time_pass(AWAY_SECONDS)
    own_servers.start_postgres()
    await wait_for_state(pool, job_id, "completed")
    await asyncio.to_thread(wait_until_all_log, group, "database.recovered", processes=2)
    assert set(count_outages(group).values()) == {1}
    assert len(count_outages(group, of="database")) == 4
    assert group.process.poll() is None
    # No chunk failed because of it.
    assert not any('"chunk.failed"' in line for line in group.lines())


def test_a_worker_that_starts_without_servers_waits_for_them(
    settings: Settings, own_servers: ChaosServers, tmp_path: Path
):
    """The worker logs both outages exactly once, and is ready when both servers are back."""
    own_servers.kill_redis()
    own_servers.crash_postgres()
    with WorkerGroup(settings, tmp_path / "waiting.log", WORKER_PROCESSES="1") as group:
        wait_until(
            lambda: count_outages(group), deadline_seconds=30, what="the first outage is logged"
        )
        own_servers.start_postgres()
        wait_until(
            lambda: len(count_outages(group)) == 3,
            deadline_seconds=30,
            what="it waits for Redis",
        )
        own_servers.start_redis()
        group.ready(processes=1)
        assert sorted(event for _, event in count_outages(group).elements()) == sorted(OUTAGES)


def test_a_worker_ends_after_its_startup_timeout(
    settings: Settings, own_servers: ChaosServers, tmp_path: Path
):
    """After STARTUP_TIMEOUT_SECONDS the worker ends with exit status 1 and an error message."""
    own_servers.kill_redis()
    with WorkerGroup(settings, tmp_path / "waiting.log", STARTUP_TIMEOUT_SECONDS="0.5") as group:
        assert group.process.wait(120) == 1
        assert "Redis cannot be used" in group.log.read_text()
        assert "Traceback" not in group.log.read_text()


async def test_workers_end_on_sigterm_while_redis_is_down(
    settings: Settings, own_servers: ChaosServers, start_group: StartGroup
):
    """SIGTERM during an outage ends every process in time and without a traceback."""
    group = start_group(processes=2)
    own_servers.kill_redis()
    await asyncio.to_thread(wait_until_all_log, group, "queue.unreachable", processes=2)
    group.signal_all(signal.SIGTERM)
    await asyncio.to_thread(group.wait_gone, deadline_seconds=20)
    assert sum('"worker.stopped"' in line for line in group.lines()) == 2
    assert "Traceback" not in group.log.read_text()
