"""A migrated database has what `0001_initial.sql` reads as, and what later migrations add to it."""

import asyncio
import os
import re
import subprocess
from pathlib import Path

import asyncpg

from db import migrate
from db.pool import connect_options
from runtime.devservers.postgres import postgres_programs

SCHEMA = Path(migrate.__file__).parent / "migrations" / "versions" / "0001_initial.sql"


async def dump(url: str) -> str:
    """The schema as `pg_dump` writes it, without alembic's own table and what differs each time."""
    text = await asyncio.to_thread(
        subprocess.check_output,
        [
            str(postgres_programs() / "bin" / "pg_dump"),
            *(
                "--schema-only",
                "--no-owner",
                "--no-privileges",
                "--exclude-table=alembic_version",
                url,
            ),
        ],
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    return "\n".join(
        line for line in text.splitlines() if not re.match(r"--|\\(un)?restrict |$", line)
    )


async def test_the_migrations_make_the_schema_that_is_written_down(
    database_url: str, empty_database_url: str
) -> None:
    """The file of the schema, loaded by itself into an empty database, and the migrations give the
    same tables, constraints, indexes, functions, triggers and views.
    """
    connection = await asyncpg.connect(**connect_options(empty_database_url, pgbouncer=False))
    try:
        await connection.execute(SCHEMA.read_text(encoding="utf-8"))
    finally:
        await connection.close()
    written = await dump(empty_database_url)
    assert written.count("CREATE TABLE") > 20
    assert await dump(database_url) == written
