"""The shared fixtures give each test a database of its own that is like a migrated, new one."""

import asyncpg

from db.migrate import latest_revision
from runtime.settings import Settings


async def test_each_test_has_a_migrated_database(pool: asyncpg.Pool) -> None:
    """It stands at the newest revision and holds the default account, and nothing else."""
    assert await pool.fetchval("select version_num from alembic_version") == latest_revision()
    assert await pool.fetchval("select array_agg(name) from accounts") == ["default"]
    assert not await pool.fetchval("select exists (select from jobs)")


async def test_what_one_test_writes_another_does_not_see(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """The template has no connection to the copies; the settings point to this test's copy."""
    assert settings.database_url
    name = await pool.fetchval("insert into accounts (name) values ('mine') returning name")
    connection = await asyncpg.connect(settings.database_url)
    assert await connection.fetchval("select array_agg(name) from accounts") == ["default", name]
    await connection.close()


async def test_the_embedded_postgres_reads_text_like_any_other(pool: asyncpg.Pool) -> None:
    """UTF-8 throughout, and upper and lower case beyond ASCII."""
    assert await pool.fetchval("show server_encoding") == "UTF8"
    assert await pool.fetchval("select lower('ÄÖÜ') = 'äöü'")
