"""Shared fixtures: real servers, a fresh database for each test, and settings that lead there.

If both DATABASE_URL and REDIS_URL are set, those servers are used, and the role must be allowed to
create databases. Otherwise embedded servers run in a folder of their own. All processes of
pytest-xdist share one pair of servers. A test may therefore count, terminate or clear only what
belongs to its own database or to `own_redis`.
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
    # All tests come from one address, and many of them use invalid keys.
    max_auth_failures_per_minute=1_000_000,
)
"""Settings that all tests share, created once because that takes as long as a database."""

_CLONES_SINCE = 18
"""The first Postgres version that clones files instead of copying them."""

_FOLDER = pytest.StashKey[Path]()
"""The folder of the embedded servers."""


def pytest_configure(config: pytest.Config) -> None:
    """Choose one folder of servers for all processes; the first one starts the servers."""
    if worker_input := getattr(config, "workerinput", None):
        config.stash[_FOLDER] = Path(worker_input["folder"])
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    config.stash[_FOLDER] = stack.enter_context(server_folder())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the folder to a process of pytest-xdist."""
    node.workerinput["folder"] = str(node.config.stash[_FOLDER])


# Nothing that imports and collection make is garbage; searching it takes as long as a few tests.
gc.disable()
register_hypothesis_profiles()
# pytest-xdist sets COLUMNS for its processes. Command output would be wrapped at places that depend
# on the length of this folder's name.
os.environ.pop("COLUMNS", None)


def pytest_collection_finish() -> None:
    """Exclude imported and collected objects from garbage collection, and begin it. They stay until
    the end and took a tenth of the time of unit tests.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Order the tests by their folders: those in the first one wait, those in the last compute."""
    from tests.kit.scheduling import FileScheduling  # noqa: PLC0415 - not where xdist is left out

    config.option.loadscopereorder = False
    return FileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _only_declared_log_lines() -> None:
    """Fail the test that logs a line which `runtime.events` does not declare."""
    Log.check = staticmethod(require_declared)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Iterator[ServerUrls]:
    """Yield a Postgres and a Redis-compatible server for the whole run, shared by all processes."""
    external = ServerUrls(os.environ.get("DATABASE_URL", ""), os.environ.get("REDIS_URL", ""))
    if all(external):
        yield external
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
    """Yield the URL of a Redis that only this test uses. `settings` leads there as well."""
    with server_folder() as folder:
        servers = ChaosServers(folder / "servers")
        try:
            servers.start_redis()
            yield servers.redis_url
        finally:
            servers.stop()


@pytest.fixture(scope="session")
async def run_statement(servers: ServerUrls) -> AsyncIterator[RunStatement]:
    """Yield a function that runs statements one by one on one connection. Connecting for each
    creation and drop would cost half as much as the copy itself.
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
    """Yield the name of the migrated, empty database that tests' databases are copied from."""
    name = f"sluice_template_{uuid4().hex[:12]}"
    await run_statement(f"create database {name}")
    await migrate(_database(servers.database_url, name))
    await grant_process_role(_database(servers.database_url, name))
    yield name
    await run_statement(f"drop database {name} with (force)")
    # The last test process to end drops the role, which has grants in the others' databases.
    # Postgres may fail if another process is dropping its database at that moment.
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
    """Return a function that creates migrated databases with only the default account.

    A copy through the write-ahead log takes 22 ms. A copy of files takes 20 ms plus a checkpoint of
    everything that other databases have written.
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
    """Yield the URL of a database without tables."""
    name = f"sluice_empty_{uuid4().hex[:12]}"
    await run_statement(f"create database {name}")
    yield _database(servers.database_url, name)
    await run_statement(f"drop database {name} with (force)")


@pytest.fixture
async def database_url(new_database: NewDatabase) -> AsyncIterator[str]:
    """Yield the URL of a migrated database for this test alone."""
    async with new_database() as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool on the test's own database."""
    async with await open_pool(database_url, size=5) as pool:
        yield pool


@pytest.fixture
def settings(
    servers: ServerUrls, database_url: str, request: pytest.FixtureRequest
) -> Iterator[Settings]:
    """Yield settings for the test's own database and its own namespace in Redis."""
    alone = "own_redis" in request.fixturenames
    redis_url = request.getfixturevalue("own_redis") if alone else servers.redis_url
    settings = settings_for(redis_url, database_url)
    yield settings
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{settings.queue_namespace}*", count=1000):
            client.delete(key)


def settings_for(redis_url: str, database_url: str) -> Settings:
    """Return settings for the database, with a new namespace in Redis."""
    changes = {
        "database_url": database_url,
        "redis_url": redis_url,
        "queue_namespace": f"test-{uuid4().hex[:12]}",
    }
    return _SETTINGS.model_copy(update=changes)


def _database(url: str, name: str) -> str:
    return urlsplit(url)._replace(path=f"/{name}").geturl()
