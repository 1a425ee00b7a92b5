"""A migrated database has the schema in `0001_initial.sql`, plus what later migrations add."""

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
    """Return the schema from `pg_dump`, without alembic's table and lines that vary by run."""
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


async def test_the_migrations_produce_the_schema_file(
    database_url: str, empty_database_url: str
) -> None:
    """Loading the schema file into an empty database gives the same objects as running the
    migrations: tables, constraints, indexes, functions, triggers and views.
    """
    connection = await asyncpg.connect(**connect_options(empty_database_url, pgbouncer=False))
    try:
        await connection.execute(SCHEMA.read_text(encoding="utf-8"))
    finally:
        await connection.close()
    written = await dump(empty_database_url)
    assert written.count("CREATE TABLE") > 20
    assert await dump(database_url) == written
