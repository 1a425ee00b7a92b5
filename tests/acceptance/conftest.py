"""Fixtures that run groups of real worker processes on the test's own database and queue.

Worker processes connect with a role that `sluice grants` has set up, and the test itself as the
tables' owner.

A test marked `both_ways` runs twice: once as usual, and once, marked `pgbouncer`, with a PgBouncer
in front of Postgres.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from db.pool import open_pool
from runtime.devservers.embedded import ServerUrls
from runtime.settings import Settings
from tests.kit.forking import Forker
from tests.kit.pgbouncer import PgBouncer, run_pgbouncer
from tests.kit.servers import process_role_url
from tests.kit.web_process import WebGroup
from tests.kit.worker_group import WorkerGroup

StartGroup = Callable[..., WorkerGroup]
StartWeb = Callable[..., WebGroup]


@pytest.fixture(scope="session")
def pgbouncer(servers: ServerUrls) -> Iterator[PgBouncer]:
    """Run a PgBouncer in front of the Postgres of the whole test run."""
    with run_pgbouncer(servers.database_url) as bouncer:
        yield bouncer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test marked `both_ways` twice: directly on Postgres, and through a PgBouncer."""
    if metafunc.definition.get_closest_marker("both_ways"):
        ways = [False, pytest.param(True, marks=pytest.mark.pgbouncer)]
        metafunc.parametrize(
            "through_pgbouncer", ways, ids=["direct", "pgbouncer"], indirect=True, scope="function"
        )


@pytest.fixture
def through_pgbouncer(request: pytest.FixtureRequest) -> bool:
    """Return whether this run of the test reaches Postgres through a PgBouncer."""
    return getattr(request, "param", False)


@pytest.fixture
def settings(
    settings: Settings, through_pgbouncer: bool, request: pytest.FixtureRequest
) -> Settings:
    """Use the role of processes, or a URL through PgBouncer, which has a role of its own."""
    if not through_pgbouncer:
        url = process_role_url(settings.database_url or "")
        return settings.model_copy(
            update={"database_url": url, "owner_database_url": settings.database_url}
        )
    return through(request.getfixturevalue("pgbouncer"), settings)


def through(bouncer: PgBouncer, settings: Settings) -> Settings:
    """Return the settings with a URL through PgBouncer."""
    url = bouncer.url(settings.database_url or "")
    return settings.model_copy(update={"database_url": url, "pgbouncer": True})


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool as the tables' owner, reaching the test's database as the workers reach it."""
    url = settings.migration_database_url or ""
    async with await open_pool(url, size=5, pgbouncer=settings.pgbouncer) as pool:
        yield pool


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Run a process that forks workers and web processes with this very code."""
    with Forker() as forker:
        yield forker


@pytest.fixture(scope="session")
def start_web(forker: Forker) -> StartWeb:
    """Return a function that starts a web process by forking, with the arguments of `WebGroup`."""
    return partial(WebGroup, popen=forker.popen)


@pytest.fixture
def start_group(settings: Settings, tmp_path: Path, forker: Forker) -> Iterator[StartGroup]:
    """Return a function that starts a group of worker processes; kill the rest at the end."""
    numbers = count(1)
    with ExitStack() as stack:

        def start(*, processes: int = 1, code: Path | None = None, **environment) -> WorkerGroup:
            environment = {"WORKER_PROCESSES": str(processes), "WORKER_THREADS": "2"} | environment
            log = tmp_path / f"workers-{next(numbers)}.log"
            options = {"code": code} if code else {"popen": forker.popen}
            group = WorkerGroup(settings, log, **options, **environment)
            stack.enter_context(group)
            return group.ready(processes=processes)

        yield start
