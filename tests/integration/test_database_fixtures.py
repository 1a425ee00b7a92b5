"""The shared fixtures give each test its own newly migrated database."""

import asyncpg

from db.migrate import latest_revision
from runtime.settings import Settings


async def test_each_test_has_a_migrated_database(pool: asyncpg.Pool) -> None:
    """The database is at the newest revision and contains only the default account."""
    assert await pool.fetchval("select version_num from alembic_version") == latest_revision()
    assert await pool.fetchval("select array_agg(name) from accounts") == ["default"]
    assert not await pool.fetchval("select exists (select from jobs)")


async def test_tests_do_not_see_each_others_rows(pool: asyncpg.Pool, settings: Settings) -> None:
    """A test writes to its own copy, to which its settings point, and leaves the template
    unchanged.
    """
    assert settings.database_url
    name = await pool.fetchval("insert into accounts (name) values ('mine') returning name")
    connection = await asyncpg.connect(settings.database_url)
    assert await connection.fetchval("select array_agg(name) from accounts") == ["default", name]
    await connection.close()


async def test_the_embedded_postgres_handles_unicode(pool: asyncpg.Pool) -> None:
    """The database uses UTF-8, and upper and lower case work beyond ASCII."""
    assert await pool.fetchval("show server_encoding") == "UTF8"
    assert await pool.fetchval("select lower('ÄÖÜ') = 'äöü'")
