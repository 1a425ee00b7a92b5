"""What the tests share: real servers, a fresh database for each test, settings that point there.

The servers are embedded ones in a folder of their own, or, where both DATABASE_URL and REDIS_URL
are set, those; the role then needs the right to create databases.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
import redis
from pydantic import SecretStr

from db.migrate import migrate
from db.pool import connect_options, open_pool
from runtime.embedded import Servers, embedded_servers
from runtime.logs import Log
from runtime.settings import Settings
from schemas.errors import ServerStartFailed

NewDatabase: TypeAlias = Callable[[], AbstractAsyncContextManager[str]]
"""Makes the URL of a database that lives as long as its context."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pgbouncer",
        action="store_true",
        help="let the acceptance tests reach Postgres through a PgBouncer in transaction mode",
    )


# On a machine that does other things too, a slow example says nothing.
hypothesis.settings.register_profile("sluice", deadline=None)
hypothesis.settings.load_profile("sluice")


@pytest.fixture(scope="session", autouse=True)
def _only_declared_log_lines() -> None:
    """A log line that `runtime.events` does not declare fails the test that wrote it."""
    Log.strict = True


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A Postgres and a Redis-compatible server for the whole run."""
    given = Servers(os.environ.get("DATABASE_URL", ""), os.environ.get("REDIS_URL", ""))
    if all(given):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="sluice-", ignore_cleanup_errors=True) as folder:
        try:
            context = embedded_servers(Path(folder), durable=False)
            servers = context.__enter__()
        except ServerStartFailed as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no servers: {error}")
        try:
            yield servers
        finally:
            context.__exit__(None, None, None)


@pytest.fixture(scope="session")
async def template_database(servers: Servers) -> AsyncIterator[str]:
    """The name of a migrated, empty database that each test's own is copied from."""
    name = f"sluice_template_{uuid4().hex[:12]}"
    await _execute(servers, f"create database {name}")
    await migrate(_database(servers.database_url, name))
    yield name
    await _execute(servers, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def new_database(servers: Servers, template_database: str) -> NewDatabase:
    """Makes migrated databases with nothing in them but the default account.

    Copying through the log takes 22 ms here; copying files takes 20 ms, and a checkpoint of
    whatever the other databases have written meanwhile.
    """

    @asynccontextmanager
    async def new() -> AsyncIterator[str]:
        name = f"sluice_test_{uuid4().hex[:12]}"
        await _execute(servers, f"create database {name} template {template_database}")
        yield _database(servers.database_url, name)
        await _execute(servers, f"drop database {name} with (force)")

    return new


@pytest.fixture
async def empty_database_url(servers: Servers) -> AsyncIterator[str]:
    """A database in which nothing is."""
    name = f"sluice_empty_{uuid4().hex[:12]}"
    await _execute(servers, f"create database {name}")
    yield _database(servers.database_url, name)
    await _execute(servers, f"drop database {name} with (force)")


@pytest.fixture
async def database_url(new_database: NewDatabase) -> AsyncIterator[str]:
    """A migrated database that nobody else uses."""
    async with new_database() as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the test's own database."""
    async with await open_pool(database_url, size=5) as pool:
        yield pool


@pytest.fixture
def settings(servers: Servers, database_url: str) -> Iterator[Settings]:
    """Settings for the test's own database and for a namespace of its own in Redis."""
    namespace = f"test-{uuid4().hex[:12]}"
    yield Settings(
        database_url=database_url,
        redis_url=servers.redis_url,
        queue_namespace=namespace,
        signing_key=SecretStr("a key for tests, and for nothing else"),
    )
    with redis.Redis.from_url(servers.redis_url) as client:
        for key in client.scan_iter(f"{namespace}*", count=1000):
            client.delete(key)


def _database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def _execute(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(**connect_options(servers.database_url, pgbouncer=True))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
