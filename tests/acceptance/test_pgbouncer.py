"""What is particular to a PgBouncer in transaction mode: sessions end behind its back, and it has
errors of its own. What holds with it and without it is tested by those marked `both_ways`.
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
from tests.acceptance.test_crash_safety import Ended, done_chunks, ended, opt_out_everyone, state_of
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
    """Connections to Postgres itself, to look at what happens there."""
    async with await open_pool(database_url, size=3) as pool:
        yield pool


async def twins(pool: asyncpg.Pool) -> None:
    """Create two accounts with equal contacts; only one of them gets disturbed."""
    for name in ("undisturbed", "disturbed"):
        await fill_large_account(pool, await make_account(pool, name), CONTACTS)


async def run_undisturbed(pool: asyncpg.Pool, settings: Settings) -> Ended:
    """Run the opt-out that the disturbed one must equal."""
    job_id = await opt_out_everyone(pool, settings, "undisturbed")
    return await ended(pool, "undisturbed", job_id, deadline=90)


async def more_done(pool: asyncpg.Pool, job_id: int) -> None:
    """Wait until another few chunks are done."""
    before = await done_chunks(pool, job_id)

    async def more() -> bool:
        return await done_chunks(pool, job_id) > before + 4

    await wait_until_async(more, deadline_seconds=30, what="the job goes on")


async def assert_no_failed_attempts(pool: asyncpg.Pool, job_id: int, group: WorkerGroup) -> None:
    """Assert that the outage counted as no chunk's failure, in the log and in rejections."""
    lines = [json.loads(line) for line in group.lines() if line.startswith("{")]
    assert {"chunk.failed", "worker.failed"}.isdisjoint(line["event"] for line in lines)
    refused = await pool.fetchval("select count(*) from rejections where job_id = $1", job_id)
    assert refused == 0


async def test_a_killed_workers_transaction_is_rolled_back_immediately(
    direct: asyncpg.Pool, settings: Settings, start_group: StartGroup
) -> None:
    """PgBouncer ends a session whose client vanished in a transaction, and hands it to nobody."""
    await twins(direct)
    first = start_group(**CHUNKS)
    expected = await run_undisturbed(direct, settings)
    job_id = await opt_out_everyone(direct, settings, "disturbed")
    await more_done(direct, job_id)
    async with direct.acquire() as gate:
        # In the middle of a chunk, the worker waits for this lock.
        await gate.execute("begin; lock table results in exclusive mode")

        async def waits() -> bool:
            return await gate.fetchval(
                "select exists (select from pg_locks where not granted"
                " and database = (select oid from pg_database where datname = current_database())"
                " and relation = 'results'::regclass)"
            )

        await wait_until_async(waits, deadline_seconds=30, what="a chunk is at its results")
        first.signal_all(signal.SIGKILL)
        await gate.execute("rollback")
        done = await done_chunks(direct, job_id)

    async def no_transaction_is_left() -> bool:
        return not await direct.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and xact_start is not null and pid <> pg_backend_pid()"
        )

    # Sooner than Postgres would end a transaction that is idle.
    await wait_until_async(
        no_transaction_is_left, deadline_seconds=8, what="all rolled back", timeout_factor=1
    )
    assert await done_chunks(direct, job_id) == done
    second = start_group(**CHUNKS, **FAST_RECOVERY)
    actual = await ended(direct, "disturbed", job_id, deadline=60)
    assert actual == expected
    await assert_no_failed_attempts(direct, job_id, second)


async def test_sessions_that_end_behind_it_are_not_the_chunks_fault(
    direct: asyncpg.Pool, settings: Settings, start_group: StartGroup
) -> None:
    """Every session of PgBouncer's is ended, three times in the middle of a job."""
    await twins(direct)
    group = start_group(processes=2, **CHUNKS, **FAST_RECOVERY)
    expected = await run_undisturbed(direct, settings)
    job_id = await opt_out_everyone(direct, settings, "disturbed")
    for _ in range(3):
        await more_done(direct, job_id)
        assert await state_of(direct, job_id) == "running"
        await direct.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = ''"
        )
    actual = await ended(direct, "disturbed", job_id, deadline=60)
    assert actual == expected
    await assert_no_failed_attempts(direct, job_id, group)


@pytest.fixture
def servers_of_its_own() -> Iterator[tuple[ServerUrls, ServerDirectory]]:
    """Start servers that the test may stop without harm to others."""
    # Durable: it is to keep what it acknowledged just before it was stopped.
    with server_folder() as folder, embedded_servers(folder) as servers:
        yield servers, ServerDirectory(folder.resolve())


async def test_workers_go_on_when_postgres_is_back_behind_it(
    servers_of_its_own: tuple[ServerUrls, ServerDirectory], tmp_path: Path
) -> None:
    """Postgres is stopped in immediate mode in the middle of a job, and started again."""
    servers, directory = servers_of_its_own
    await migrate(servers.database_url)
    with run_pgbouncer(servers.database_url) as bouncer:
        settings = through(bouncer, Settings(**servers._asdict()))
        async with await open_pool(servers.database_url, size=2) as direct:
            await twins(direct)
            with WorkerGroup(
                settings, tmp_path / "workers.log", **CHUNKS, **FAST_RECOVERY
            ) as group:
                group.ready(processes=2)
                expected = await run_undisturbed(direct, settings)
                job_id = await opt_out_everyone(direct, settings, "disturbed")
                await more_done(direct, job_id)
                postgres = postgres_process(directory.postgres(directory.sockets())).find_process()
                assert postgres
                postgres.send_signal(signal.SIGQUIT)
                await wait_until_async(
                    lambda: not is_alive(postgres), deadline_seconds=30, what="Postgres is away"
                )

                async def is_back() -> bool:
                    try:
                        return bool(await state_of(direct, job_id))
                    except TRANSIENT_ERRORS:
                        return False

                await wait_until_async(is_back, deadline_seconds=30, what="Postgres is back")
                actual = await ended(direct, "disturbed", job_id, deadline=60)
                assert actual == expected
                await assert_no_failed_attempts(direct, job_id, group)
                assert len(group.workers()) >= 2


async def test_what_it_refuses_is_not_the_chunks_fault(database_url: str) -> None:
    """No server connection is free for long enough; and no place for one more client."""
    few = {"default_pool_size": "1", "query_wait_timeout": "1", "max_client_conn": "2"}
    with run_pgbouncer(database_url, **few) as bouncer:
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
    """Whoever starts meanwhile ends with what PgBouncer says, and not with a traceback."""
    nothing = f"postgresql://postgres@/postgres?host={tmp_path}"
    with (
        run_pgbouncer(nothing) as bouncer,
        pytest.raises(DatabaseUnreachable, match=r"cannot be used: .*Nothing was done"),
    ):
        await open_pool(bouncer.url(nothing), size=1, pgbouncer=True)


async def test_who_forgets_the_setting_is_told_of_it(
    pgbouncer: PgBouncer, database_url: str
) -> None:
    """A PgBouncer that is taken for a Postgres refuses, and the sentence names the setting."""
    with pytest.raises(DatabaseUnreachable, match="Set PGBOUNCER=true"):
        await open_pool(pgbouncer.url(database_url), size=1)


async def test_a_database_is_migrated_through_it(pgbouncer: PgBouncer, database_url: str) -> None:
    """Release phases have one URL, and it may be that of the pooler."""
    async with await open_pool(database_url, size=1) as direct:
        await direct.execute("drop schema public cascade; create schema public")
    before, after = await migrate(pgbouncer.url(database_url))
    assert before is None
    async with await open_pool(pgbouncer.url(database_url), size=1, pgbouncer=True) as pool:
        assert await pool.fetchval("select version_num from alembic_version") == after
