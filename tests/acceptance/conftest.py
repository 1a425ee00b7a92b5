"""Fleets of real worker processes on the test's own database and queue."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.acceptance.fleet import WorkerGroup

StartGroup = Callable[..., WorkerGroup]


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
