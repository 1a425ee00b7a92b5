"""Fleets of real worker processes on the test's own database and queue.

They connect by a role that `sluice grants` has let in, and the test itself by the tables' owner.

A test marked `both_ways` is run twice: once as it stands, and once, marked `pgbouncer`, with a
PgBouncer between Postgres and whatever the test and its fleets do there.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
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
from tests.kit.worker_group import WorkerGroup

StartGroup = Callable[..., WorkerGroup]


@pytest.fixture(scope="session")
def pgbouncer(servers: ServerUrls) -> Iterator[PgBouncer]:
    """A PgBouncer before the Postgres of the whole run."""
    with run_pgbouncer(servers.database_url) as bouncer:
        yield bouncer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test marked `both_ways` twice: direct to Postgres, and through a PgBouncer."""
    if metafunc.definition.get_closest_marker("both_ways"):
        ways = [False, pytest.param(True, marks=pytest.mark.pgbouncer)]
        metafunc.parametrize(
            "through_pgbouncer", ways, ids=["direct", "pgbouncer"], indirect=True, scope="function"
        )


@pytest.fixture
def through_pgbouncer(request: pytest.FixtureRequest) -> bool:
    """Whether this run of the test reaches Postgres through a PgBouncer."""
    return getattr(request, "param", False)


@pytest.fixture
def settings(
    settings: Settings, through_pgbouncer: bool, request: pytest.FixtureRequest
) -> Settings:
    """The settings of all tests for the role of processes, or those that lead through PgBouncer,
    which connects by a role of its own.
    """
    if not through_pgbouncer:
        url = process_role_url(settings.database_url or "")
        return settings.model_copy(
            update={"database_url": url, "owner_database_url": settings.database_url}
        )
    return through(request.getfixturevalue("pgbouncer"), settings)


def through(bouncer: PgBouncer, settings: Settings) -> Settings:
    """The settings with a URL that leads through PgBouncer."""
    url = bouncer.url(settings.database_url or "")
    return settings.model_copy(update={"database_url": url, "pgbouncer": True})


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the test's own database by the tables' owner, reached as the workers reach it."""
    url = settings.migration_database_url or ""
    async with await open_pool(url, size=5, pgbouncer=settings.pgbouncer) as pool:
        yield pool


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """A process from which workers are forked that run this very code."""
    with Forker() as forker:
        yield forker


@pytest.fixture
def start_group(settings: Settings, tmp_path: Path, forker: Forker) -> Iterator[StartGroup]:
    """Starts a group of worker processes; whatever still lives at the end is killed."""
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
