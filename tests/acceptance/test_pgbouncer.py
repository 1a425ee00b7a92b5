"""Cases peculiar to a PgBouncer in transaction mode: it has its own errors, and sessions behind it
can end.

Tests marked `both_ways` cover what holds with and without it.
"""

import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from db.errors import TRANSIENT_ERRORS
from db.migrate import migrate
from db.pool import connect_options, open_pool
from runtime.devservers.directory import ServerDirectory
from runtime.devservers.embedded import ServerUrls, embedded_servers
from runtime.devservers.postgres import postgres_process
from runtime.devservers.process import is_alive
from runtime.settings import Settings
from schemas.errors import DatabaseUnreachable
from tests.acceptance.conftest import StartGroup, through
from tests.acceptance.test_crash_safety import (
    JobEffects,
    count_done_chunks,
    opt_out_everyone,
    state_of,
    wait_for_end,
)
from tests.kit.factories import fill_large_account, make_account
from tests.kit.folders import server_folder
from tests.kit.pgbouncer import PgBouncer, run_pgbouncer
from tests.kit.waiting import wait_until_async
from tests.kit.worker_group import WorkerGroup

CONTACTS = 6_000
CHUNKS = {"CHUNK_SIZE": "50"}
FAST_RECOVERY = {"SWEEP_SECONDS": "0.5", "STALLED_AFTER_SECONDS": "1"}

pytestmark = pytest.mark.pgbouncer


@pytest.fixture
def settings(settings: Settings, pgbouncer: PgBouncer) -> Settings:
    """Override the settings to reach Postgres through the PgBouncer."""
    return through(pgbouncer, settings)


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool directly on Postgres, to observe what happens there."""
    async with await open_pool(database_url, size=3) as pool:
        yield pool


async def make_twins(pool: asyncpg.Pool) -> None:
    """Create two accounts with equal contacts, only one of which is disturbed."""
    for name in ("undisturbed", "disturbed"):
        await fill_large_account(pool, await make_account(pool, name), CONTACTS)


async def run_undisturbed(pool: asyncpg.Pool, settings: Settings) -> JobEffects:
    """Run the opt-out whose results the disturbed run must equal."""
    job_id = await opt_out_everyone(pool, settings, "undisturbed")
    return await wait_for_end(pool, "undisturbed", job_id, deadline=90)


async def wait_for_more_chunks(pool: asyncpg.Pool, job_id: int) -> None:
    """Wait until a few more chunks are done."""
    before = await count_done_chunks(pool, job_id)

    async def more() -> bool:
        return await count_done_chunks(pool, job_id) > before + 4

    await wait_until_async(more, deadline_seconds=30, what="the job goes on")


async def assert_no_failed_attempts(pool: asyncpg.Pool, job_id: int, group: WorkerGroup) -> None:
    """Assert that no failed attempt was logged, and that no contact was rejected."""
    lines = [json.loads(line) for line in group.lines() if line.startswith("{")]
    assert {"chunk.failed", "worker.failed"}.isdisjoint(line["event"] for line in lines)
    refused = await pool.fetchval("select count(*) from rejections where job_id = $1", job_id)
    assert refused == 0


async def test_a_killed_workers_transaction_is_rolled_back_immediately(
    direct: asyncpg.Pool, settings: Settings, start_group: StartGroup
) -> None:
    """If a client disappears in a transaction, PgBouncer closes its session for good."""
    await make_twins(direct)
    first = start_group(**CHUNKS)
    expected = await run_undisturbed(direct, settings)
    job_id = await opt_out_everyone(direct, settings, "disturbed")
    await wait_for_more_chunks(direct, job_id)
    async with direct.acquire() as gate:
        # In the middle of its chunk, the worker waits for this lock.
        await gate.execute("begin; lock table results in exclusive mode")

        async def is_waiting() -> bool:
            return await gate.fetchval(
                "select exists (select from pg_locks where not granted"
                " and database = (select oid from pg_database where datname = current_database())"
                " and relation = 'results'::regclass)"
            )

        await wait_until_async(is_waiting, deadline_seconds=30, what="a chunk writes its results")
        first.signal_all(signal.SIGKILL)
        await gate.execute("rollback")
        done = await count_done_chunks(direct, job_id)

    async def no_transaction_is_left() -> bool:
        return not await direct.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and xact_start is not null and pid <> pg_backend_pid()"
        )

    # Postgres itself would end an idle transaction later than this.
    await wait_until_async(
        no_transaction_is_left, deadline_seconds=8, what="all rolled back", timeout_factor=1
    )
    assert await count_done_chunks(direct, job_id) == done
    second = start_group(**CHUNKS, **FAST_RECOVERY)
    actual = await wait_for_end(direct, "disturbed", job_id, deadline=60)
    assert actual == expected
    await assert_no_failed_attempts(direct, job_id, second)


async def test_ended_server_sessions_are_not_the_chunks_fault(
    direct: asyncpg.Pool, settings: Settings, start_group: StartGroup
) -> None:
    """Ending all of PgBouncer's sessions three times in mid-job counts as no failed attempt."""
    await make_twins(direct)
    group = start_group(processes=2, **CHUNKS, **FAST_RECOVERY)
    expected = await run_undisturbed(direct, settings)
    job_id = await opt_out_everyone(direct, settings, "disturbed")
    for _ in range(3):
        await wait_for_more_chunks(direct, job_id)
        assert await state_of(direct, job_id) == "running"
        await direct.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = ''"
        )
    actual = await wait_for_end(direct, "disturbed", job_id, deadline=60)
    assert actual == expected
    await assert_no_failed_attempts(direct, job_id, group)


@pytest.fixture
def own_servers() -> Iterator[tuple[ServerUrls, ServerDirectory]]:
    """Start servers that the test may stop."""
    # Durable, so that commits survive an immediate stop.
    with server_folder() as folder, embedded_servers(folder) as servers:
        yield servers, ServerDirectory(folder.resolve())


async def test_workers_continue_after_a_restart_of_postgres(
    own_servers: tuple[ServerUrls, ServerDirectory], tmp_path: Path
) -> None:
    """Postgres is stopped in immediate mode in mid-job and restarted; the job completes."""
    servers, directory = own_servers
    await migrate(servers.database_url)
    with run_pgbouncer(servers.database_url) as bouncer:
        settings = through(bouncer, Settings(**servers._asdict()))
        async with await open_pool(servers.database_url, size=2) as direct:
            await make_twins(direct)
            with WorkerGroup(
                settings, tmp_path / "workers.log", **CHUNKS, **FAST_RECOVERY
            ) as group:
                group.ready(processes=2)
                expected = await run_undisturbed(direct, settings)
                job_id = await opt_out_everyone(direct, settings, "disturbed")
                await wait_for_more_chunks(direct, job_id)
                postgres = postgres_process(directory.postgres(directory.sockets())).find_process()
                assert postgres
                postgres.send_signal(signal.SIGQUIT)
                await wait_until_async(
                    lambda: not is_alive(postgres), deadline_seconds=30, what="Postgres is down"
                )

                async def is_back() -> bool:
                    try:
                        return bool(await state_of(direct, job_id))
                    except TRANSIENT_ERRORS:
                        return False

                await wait_until_async(is_back, deadline_seconds=30, what="Postgres is back")
                actual = await wait_for_end(direct, "disturbed", job_id, deadline=60)
                assert actual == expected
                await assert_no_failed_attempts(direct, job_id, group)
                assert len(group.workers()) >= 2


async def test_errors_of_pgbouncer_are_not_the_chunks_fault(database_url: str) -> None:
    """Errors of PgBouncer are transient if no server connection is free, or if no more clients are
    allowed.
    """
    limits = {"default_pool_size": "1", "query_wait_timeout": "1", "max_client_conn": "2"}
    with run_pgbouncer(database_url, **limits) as bouncer:
        url = bouncer.url(database_url)
        options = connect_options(url, pgbouncer=True)
        first = await asyncpg.connect(**options)
        second = await asyncpg.connect(**options)
        try:
            with pytest.raises(DatabaseUnreachable, match="no more connections allowed"):
                await open_pool(url, size=1, pgbouncer=True)
            async with first.transaction():
                await first.execute("select 1")
                with pytest.raises(TRANSIENT_ERRORS, match="query_wait_timeout"):
                    await second.fetchval("select 1")
        finally:
            await first.close()
            second.terminate()


async def test_a_postgres_that_is_down_behind_pgbouncer_is_reported(tmp_path: Path) -> None:
    """Opening a pool raises an error with PgBouncer's message."""
    nothing = f"postgresql://postgres@/postgres?host={tmp_path}"
    with (
        run_pgbouncer(nothing) as bouncer,
        pytest.raises(DatabaseUnreachable, match=r"cannot be used: .*Nothing was done"),
    ):
        await open_pool(bouncer.url(nothing), size=1, pgbouncer=True)


async def test_a_missing_pgbouncer_setting_is_reported(
    pgbouncer: PgBouncer, database_url: str
) -> None:
    """Opening a pool on a PgBouncer without PGBOUNCER=true raises an error that says so."""
    with pytest.raises(DatabaseUnreachable, match="Set PGBOUNCER=true"):
        await open_pool(pgbouncer.url(database_url), size=1)


async def test_a_database_is_migrated_through_pgbouncer(
    pgbouncer: PgBouncer, database_url: str
) -> None:
    """A release phase has a single URL, and it may be PgBouncer's."""
    async with await open_pool(database_url, size=1) as direct:
        await direct.execute("drop schema public cascade; create schema public")
    before, after = await migrate(pgbouncer.url(database_url))
    assert before is None
    async with await open_pool(pgbouncer.url(database_url), size=1, pgbouncer=True) as pool:
        assert await pool.fetchval("select version_num from alembic_version") == after
