"""Fleets of real worker processes on the test's own database and queue; with `--pgbouncer` whatever
the tests do to Postgres, and the fleets, goes through a PgBouncer.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from db.pool import open_pool
from runtime.embedded import Servers
from runtime.settings import Settings
from tests.acceptance.fleet import WorkerGroup
from tests.acceptance.pgbouncer import PgBouncer, pgbouncer_before

StartGroup = Callable[..., WorkerGroup]


@pytest.fixture(scope="session")
def pgbouncer(servers: Servers) -> Iterator[PgBouncer]:
    """A PgBouncer before the Postgres of the whole run."""
    with pgbouncer_before(servers.database_url) as bouncer:
        yield bouncer


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """The settings of all tests, or those that lead through PgBouncer."""
    if not request.config.getoption("--pgbouncer"):
        return settings
    return through(request.getfixturevalue("pgbouncer"), settings)


def through(bouncer: PgBouncer, settings: Settings) -> Settings:
    """The settings with a URL that leads through PgBouncer."""
    url = bouncer.url(settings.database_url or "")
    return settings.model_copy(update={"database_url": url, "pgbouncer": True})


@pytest.fixture
async def pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the test's own database, reached as the workers reach it."""
    url = settings.database_url or ""
    async with await open_pool(url, size=5, pgbouncer=settings.pgbouncer) as pool:
        yield pool


@pytest.fixture
def start_group(settings: Settings, tmp_path: Path) -> Iterator[StartGroup]:
    """Starts a group of worker processes; whatever still lives at the end is killed."""
    numbers = count(1)
    with ExitStack() as stack:

        def start(*, processes: int = 1, code: Path | None = None, **environment) -> WorkerGroup:
            environment = {"WORKER_PROCESSES": str(processes), "WORKER_THREADS": "2"} | environment
            log = tmp_path / f"workers-{next(numbers)}.log"
            options = {"code": code} if code else {}
            group = WorkerGroup(settings, log, **options, **environment)
            stack.enter_context(group)
            return group.ready(processes=processes)

        yield start
