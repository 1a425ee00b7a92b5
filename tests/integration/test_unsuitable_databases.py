"""Migrations and processes report in a sentence why they cannot use a database."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from db.migrate import latest_revision, migrate, require_current
from db.pool import connect_options, open_pool
from schemas.errors import DatabaseUnreachable, DatabaseUnsuitable
from tests.kit.commands import run_sluice

PASSWORD = "for a test only"


async def execute(url, *statements):
    """Run each statement in a transaction of its own."""
    connection = await asyncpg.connect(**connect_options(url, pgbouncer=False))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def create_database(servers, encoding) -> AsyncIterator[str]:
    """Create a database with this encoding, and yield its URL."""
    name = f"sluice_{encoding.lower()}_{uuid4().hex[:12]}"
    await execute(
        servers.database_url,
        f"create database {name} encoding '{encoding}' template template0"
        " locale_provider 'libc' locale 'C'",
    )
    try:
        yield urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()
    finally:
        await execute(servers.database_url, f"drop database {name} with (force)")


@pytest.fixture
async def role(servers) -> AsyncIterator[str]:
    """Create a role that may only connect. Request it before a database that it is to own: the
    database has to be dropped before the role.
    """
    name = f"sluice_role_{uuid4().hex[:12]}"
    try:
        await execute(servers.database_url, f"create role {name} login password '{PASSWORD}'")
    except asyncpg.InsufficientPrivilegeError:
        pytest.skip("the role of DATABASE_URL may not create roles")
    yield name
    await execute(servers.database_url, f"drop role {name}")


def as_role(url, role):
    """Return the URL with this role and its password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = f"{role}:{PASSWORD.replace(' ', '%20')}"
    return parts._replace(netloc=f"{user}@{host}").geturl()


@pytest.fixture
def sluice(monkeypatch, settings, tmp_path):
    """Return a function that runs a command on a database, and returns its exit status and its
    errors.
    """
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.chdir(tmp_path)

    async def sluice(url, *arguments):
        monkeypatch.setenv("DATABASE_URL", url)
        result = await asyncio.to_thread(run_sluice, *arguments)
        assert result.stdout == "" or result.exit_code == 0
        return result.exit_code, " ".join(result.stderr.split())

    return sluice


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"])
async def test_the_encoding_has_to_be_utf_8(servers, sluice, encoding):
    """Migrating raises an error that says what to do, and creates no table."""
    async with create_database(servers, encoding) as url:
        with pytest.raises(DatabaseUnsuitable, match=f"keeps text as {encoding}.*template0"):
            await migrate(url)
        status, message = await sluice(url, "migrate")
        assert (status, "encoding 'UTF8'" in message) == (1, True)
        connection = await asyncpg.connect(**connect_options(url, pgbouncer=False))
        tables = await connection.fetchval(
            "select count(*) from pg_tables where schemaname='public'"
        )
        await connection.close()
        assert tables == 0


async def test_nothing_starts_on_a_database_of_another_encoding(servers, settings, sluice):
    """If such a database was migrated by an older version, commands, workers and the readiness
    check still report it.
    """
    async with create_database(servers, "LATIN1") as url:
        await execute(
            url,
            "create table alembic_version (version_num text)",
            f"insert into alembic_version values ('{latest_revision()}')",
        )
        status, message = await sluice(url, "jobs")
        assert (status, "keeps text as LATIN1" in message) == (1, True)
        async with await open_pool(url, size=1) as pool, pool.acquire() as connection:
            with pytest.raises(DatabaseUnsuitable, match="LATIN1"):
                await require_current(connection)
        worker = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "workers"],
            env={"DATABASE_URL": url, "REDIS_URL": settings.redis_url, "PATH": "/usr/bin"},
            capture_output=True,
            check=False,
        )
        assert worker.returncode == 1
        assert b"keeps text as LATIN1" in worker.stderr
        assert b"Traceback" not in worker.stderr


async def test_the_missing_rights_of_a_role_are_listed(role, empty_database_url, sluice):
    """The role may not create tables, use the schema or connect: each is reported in a sentence.
    The command succeeds once the role owns the database.
    """
    url = as_role(empty_database_url, role)
    name = urlsplit(url).path[1:]
    status, message = await sluice(url, "migrate")
    assert (status, "permission denied for schema public" in message) == (1, True)
    assert "alter database" in message
    await execute(empty_database_url, "revoke usage on schema public from public")
    status, message = await sluice(url, "migrate")
    assert (status, "no schema has been selected" in message) == (1, True)
    await execute(empty_database_url, f"revoke connect on database {name} from public")
    for arguments in (["migrate"], ["jobs"]):
        status, message = await sluice(url, *arguments)
        assert (status, "permission denied for database" in message) == (1, True)
    await execute(empty_database_url, f"alter database {name} owner to {role}")
    assert await sluice(url, "migrate") == (0, "")


async def test_a_role_without_read_access_is_reported(role, database_url, sluice):
    """A role without access to another role's database gets an error that names the table."""
    url = as_role(database_url, role)
    for arguments in (["migrate"], ["jobs"]):
        status, message = await sluice(url, *arguments)
        assert (status, "permission denied for table alembic_version" in message) == (1, True)
    await execute(database_url, f"grant select on alembic_version, deployment to {role}")
    status, message = await sluice(url, "jobs")
    assert (status, "permission denied for table jobs" in message) == (1, True)


async def test_a_read_only_database_is_reported(role, empty_database_url, sluice):
    """A replica is read-only too, so the message names the primary server."""
    name = urlsplit(empty_database_url).path[1:]
    await execute(empty_database_url, f"alter database {name} owner to {role}")
    await execute(empty_database_url, f"alter role {role} set default_transaction_read_only = on")
    status, message = await sluice(as_role(empty_database_url, role), "migrate")
    assert (status, "read-only transaction" in message) == (1, True)
    assert "primary server" in message


async def test_a_missing_database_or_role_is_reported(servers, sluice):
    """The message for a missing database says how to create one; for a role, to check the user."""
    url = urlsplit(servers.database_url)._replace(path="/no_such_database").geturl()
    with pytest.raises(DatabaseUnreachable, match=r"does not exist.*create database NAME"):
        await migrate(url)
    for arguments in (["migrate"], ["jobs"]):
        status, message = await sluice(url, *arguments)
        assert (status, "create database NAME" in message) == (1, True)
    url = as_role(servers.database_url, "no_such_role")
    status, message = await sluice(url, "migrate")
    assert (status, "Check the user" in message) == (1, True)
