"""A database is migrated while others use it."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from db import migrate as migrating
from db.migrate import latest_revision, migrate
from db.pool import connect_options
from schemas.errors import MigrationLockTimeout
from tests.kit.waiting import wait_until_async

BEFORE = "0001"
"""The revision before the one that changes `jobs`."""

BEFORE_INDEX = "0002"
"""The revision before the one that reads all chunks."""

LATER = {
    "0002_pre_note": "alter table jobs add column note text;",
    "0003_post_index": "create index chunks_by_worker on job_chunks (account_id, worker);",
}
"""Migrations of future versions."""

REVISION = """
from db.migrations import run_sql

revision = "{revision}"
down_revision = "{before}"
supports_older_code = True


def upgrade():
    run_sql(__file__)
"""


@pytest.fixture
def make_old(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], Any]:
    """Return a function that migrates a database to a revision and returns its URL. Later
    migrations exist.
    """
    migrations = Path(shutil.copytree(migrating._MIGRATIONS, tmp_path / "migrations"))
    before = BEFORE
    for name, sql in LATER.items():
        revision = name.partition("_")[0]
        file = migrations / "versions" / f"{name}.py"
        file.write_text(REVISION.format(revision=revision, before=before))
        file.with_suffix(".sql").write_text(sql)
        before = revision
    monkeypatch.setattr(migrating, "_MIGRATIONS", migrations)

    async def make(revision: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(migrating, "latest_revision", lambda: revision)
            await migrate(empty_database_url)
        return empty_database_url

    return make


async def test_a_migration_waiting_for_a_table_blocks_no_reader(
    make_old: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report reads a table that the migration changes. Other sessions can still read every table,
    and the migration fails with nothing changed. Once the report has ended, it succeeds.
    """
    old_database_url = await make_old(BEFORE)
    monkeypatch.setattr(migrating, "MIGRATE_TIMEOUT_SECONDS", 2.0)
    report = await asyncpg.connect(**connect_options(old_database_url, pgbouncer=False))
    other = await asyncpg.connect(**connect_options(old_database_url, pgbouncer=False))
    try:
        async with asyncio.timeout(60), report.transaction():
            await report.execute("select count(*) from jobs")
            migration = asyncio.create_task(migrate(old_database_url))
            await wait_until_async(
                lambda: _waits_for_a_table(report), deadline_seconds=10, what="the migration waits"
            )
            # The migration still waits for its lock, and has not given up yet.
            await other.execute("select from jobs, email_addresses, results")
            with pytest.raises(MigrationLockTimeout):
                await migration
            before = await other.fetchval("select version_num from alembic_version")
            assert before == BEFORE
        assert await migrate(old_database_url) == (before, latest_revision())
    finally:
        report.terminate()
        other.terminate()


async def test_an_index_build_on_chunks_blocks_no_other_table(
    make_old: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the index build waits for a transaction that wrote a chunk, jobs and addresses can be
    changed and chunks read. Earlier migrations are kept, and the next run continues from there.
    """
    url = await make_old(BEFORE)
    monkeypatch.setattr(migrating, "MIGRATE_TIMEOUT_SECONDS", 2.0)
    worker = await asyncpg.connect(**connect_options(url, pgbouncer=False))
    other = await asyncpg.connect(**connect_options(url, pgbouncer=False))
    try:
        async with asyncio.timeout(60):
            with monkeypatch.context() as patch:
                patch.setattr(migrating, "latest_revision", lambda: BEFORE_INDEX)
                assert await migrate(url) == (BEFORE, BEFORE_INDEX)
            async with worker.transaction():
                await worker.execute("update job_chunks set attempts = 0")
                migration = asyncio.create_task(migrate(url))
                await wait_until_async(
                    lambda: _waits_for_a_table(other, "ShareLock"),
                    deadline_seconds=10,
                    what="the migration waits",
                )
                await other.execute("update jobs set selected = 0")
                await other.execute("update email_addresses set contact_count = 1")
                await other.execute("select from job_chunks")
                with pytest.raises(MigrationLockTimeout):
                    await migration
            assert await migrate(url) == (BEFORE_INDEX, latest_revision())
    finally:
        worker.terminate()
        other.terminate()


async def _waits_for_a_table(
    connection: asyncpg.Connection, mode: str = "AccessExclusiveLock"
) -> bool:
    return bool(
        await connection.fetchval(
            "select count(*) from pg_locks where not granted and mode = $1"
            " and relation is not null"
            " and database = (select oid from pg_database where datname = current_database())",
            mode,
        )
    )
