"""A database is migrated while others use it."""

import asyncio

import alembic.command
import asyncpg
import pytest

from db import migrate as migrating
from db.migrate import head, migrate
from db.pool import connect_options
from schemas.errors import MigrationInTheWay
from tests.conditions import wait_until_async

BEFORE = "0003"
"""The version before one that changes `jobs`."""


@pytest.fixture
async def old_database_url(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database as that version left it."""
    upgrade = alembic.command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(alembic.command, "upgrade", lambda config, _: upgrade(config, BEFORE))
        await migrate(empty_database_url)
    return empty_database_url


async def test_a_table_in_use_keeps_a_migration_waiting_and_nobody_else(
    old_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a report reads a table that the migration changes, others go on reading all of them,
    the migration says that it could not be done, and nothing of it is; when the report has ended
    it is done.
    """
    monkeypatch.setattr(migrating, "PATIENCE_SECONDS", 2.0)
    report = await asyncpg.connect(**connect_options(old_database_url, pgbouncer=False))
    other = await asyncpg.connect(**connect_options(old_database_url, pgbouncer=False))
    try:
        async with asyncio.timeout(60), report.transaction():
            await report.execute("select count(*) from jobs")
            migration = asyncio.create_task(migrate(old_database_url))
            await wait_until_async(
                lambda: _waits_for_a_table(report), deadline_seconds=10, what="the migration waits"
            )
            # Behind the migration's own lock, and before it has given up for good.
            await other.execute("select from jobs, email_addresses, results")
            with pytest.raises(MigrationInTheWay):
                await migration
            before = await other.fetchval("select version_num from alembic_version")
            assert before == BEFORE
        assert await migrate(old_database_url) == (before, head())
    finally:
        report.terminate()
        other.terminate()


async def _waits_for_a_table(connection: asyncpg.Connection) -> bool:
    return bool(
        await connection.fetchval(
            "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"
            " and database = (select oid from pg_database where datname = current_database())"
        )
    )
