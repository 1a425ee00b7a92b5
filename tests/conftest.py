"""What the tests share: real servers, a fresh database for each test, settings that point there.

The servers are embedded ones in a folder of their own, or, where both DATABASE_URL and REDIS_URL
are set, those; the role then needs the right to create databases. Where pytest-xdist runs tests in
several processes, all of them share one pair of servers, so no test may count on being alone there:
what it counts, ends or wipes is of its own database, or of `own_redis`.
"""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import redis
from pydantic import SecretStr

from db.migrate import migrate
from db.pool import connect_options, open_pool
from runtime.devservers.embedded import ServerUrls, embedded_servers
from runtime.logs import Log
from runtime.settings import Settings
from schemas.errors import ServerStartError
from tests.kit.folders import server_folder
from tests.kit.log_lines import require_declared
from tests.kit.property_examples import register_hypothesis_profiles
from tests.kit.servers import PROCESS_ROLE, ChaosServers, grant_process_role

NewDatabase: TypeAlias = Callable[[], AbstractAsyncContextManager[str]]
"""Makes the URL of a database that lives as long as its context."""

RunStatement: TypeAlias = Callable[[str], Awaitable[None]]
"""Runs a statement by the role that may create databases."""

_SETTINGS = Settings(
    signing_keys=SecretStr("a-key-for-tests-and-for-nothing-else"),
    # All tests come from one address, and many of them try what is wrong.
    max_auth_failures_per_minute=1_000_000,
)
"""What is alike in all tests, read once: it takes as long as a database."""

_CLONES_SINCE = 18
"""The first Postgres that copies files without reading them."""

_FOLDER = pytest.StashKey[Path]()
"""The folder of the embedded servers."""


def pytest_configure(config: pytest.Config) -> None:
    """Name one folder of servers for all processes; who joins there gets the servers that run."""
    if told := getattr(config, "workerinput", None):
        config.stash[_FOLDER] = Path(told["folder"])
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    config.stash[_FOLDER] = stack.enter_context(server_folder())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist which folder it is."""
    node.workerinput["folder"] = str(node.config.stash[_FOLDER])


register_hypothesis_profiles()
# pytest-xdist sets it for its processes: what a command says would be broken into lines, here or
# there by how long the name of this folder is.
os.environ.pop("COLUMNS", None)


def pytest_collection_finish() -> None:
    """Let garbage collections skip what was imported and collected, which stays to the end: they
    took a tenth of the time of unit tests.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run what takes long first: the folders are in that order by their names."""
    from tests.kit.scheduling import FileScheduling  # noqa: PLC0415 - not where xdist is left out

    config.option.loadscopereorder = False
    return FileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _only_declared_log_lines() -> None:
    """A log line that `runtime.events` does not declare fails the test that wrote it."""
    Log.check = staticmethod(require_declared)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[ServerUrls]:
    """A Postgres and a Redis-compatible server for the whole run, shared by all its processes."""
    given = ServerUrls(os.environ.get("DATABASE_URL", ""), os.environ.get("REDIS_URL", ""))
    if all(given):
        yield given
        return
    with ExitStack() as stack:
        try:
            context = embedded_servers(pytestconfig.stash[_FOLDER], durable=False)
            servers = stack.enter_context(context)
        except ServerStartError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no servers: {error}")
        yield servers


@pytest.fixture
def own_redis() -> Iterator[str]:
    """The URL of a Redis that only this test uses. Its `settings` lead there."""
    with server_folder() as folder:
        servers = ChaosServers(folder / "servers")
        try:
            servers.start_redis()
            yield servers.redis_url
        finally:
            servers.stop()


@pytest.fixture(scope="session")
async def run_statement(servers: ServerUrls) -> AsyncIterator[RunStatement]:
    """Runs statements one after the other on one connection: to open one for each test's database,
    and one to drop it, would cost half as much as to copy it.
    """
    connection = await asyncpg.connect(**connect_options(servers.database_url, pgbouncer=True))
    one_at_a_time = asyncio.Lock()
    if connection.get_server_version().major >= _CLONES_SINCE:
        await connection.execute("set file_copy_method = clone")

    async def run(statement: str) -> None:
        async with one_at_a_time:
            await connection.execute(statement)

    yield run
    await connection.close()


@pytest.fixture(scope="session")
async def template_database(servers: ServerUrls, run_statement: RunStatement) -> AsyncIterator[str]:
    """The name of a migrated, empty database that each test's own is copied from."""
    name = f"sluice_template_{uuid4().hex[:12]}"
    await run_statement(f"create database {name}")
    await migrate(_database(servers.database_url, name))
    await grant_process_role(_database(servers.database_url, name))
    yield name
    await run_statement(f"drop database {name} with (force)")
    # The last of the tests' processes to end drops it: it has grants in their databases. Postgres
    # stumbles over a database that another one of them drops at the moment.
    with suppress(
        asyncpg.DependentObjectsStillExistError,
        asyncpg.UndefinedObjectError,
        asyncpg.InternalServerError,
    ):
        await run_statement(f"drop role {PROCESS_ROLE}")


@pytest.fixture(scope="session")
def new_database(
    servers: ServerUrls, run_statement: RunStatement, template_database: str
) -> NewDatabase:
    """Makes migrated databases with nothing in them but the default account.

    Copying through the log takes 22 ms here; copying files takes 20 ms, and a checkpoint of
    whatever the other databases have written meanwhile.
    """

    @asynccontextmanager
    async def new() -> AsyncIterator[str]:
        name = f"sluice_test_{uuid4().hex[:12]}"
        await run_statement(
            f"create database {name} template {template_database} strategy file_copy"
        )
        yield _database(servers.database_url, name)
        await run_statement(f"drop database {name} with (force)")

    return new


@pytest.fixture
async def empty_database_url(
    servers: ServerUrls, run_statement: RunStatement
) -> AsyncIterator[str]:
    """A database in which nothing is."""
    name = f"sluice_empty_{uuid4().hex[:12]}"
    await run_statement(f"create database {name}")
    yield _database(servers.database_url, name)
    await run_statement(f"drop database {name} with (force)")


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
def settings(
    servers: ServerUrls, database_url: str, request: pytest.FixtureRequest
) -> Iterator[Settings]:
    """Settings for the test's own database and for a namespace of its own in Redis."""
    alone = "own_redis" in request.fixturenames
    redis_url = request.getfixturevalue("own_redis") if alone else servers.redis_url
    settings = settings_for(redis_url, database_url)
    yield settings
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{settings.queue_namespace}*", count=1000):
            client.delete(key)


def settings_for(redis_url: str, database_url: str) -> Settings:
    """Return settings for the database, and for a namespace of their own in Redis."""
    given = {
        "database_url": database_url,
        "redis_url": redis_url,
        "queue_namespace": f"test-{uuid4().hex[:12]}",
    }
    return _SETTINGS.model_copy(update=given)


def _database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
