"""The worker processes that are measured, started as the Procfile starts them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.settings import Settings, child_environment
from tests.kit.worker_group import ROOT, WorkerGroup

_STOP_SECONDS = 15.0


@contextmanager
def running_workers(settings: Settings, log: Path, *, in_order: bool = True) -> Iterator[list[int]]:
    """A group of worker processes with these settings; gives their process ids, the master's not.

    All of the group have ended when the context has, however it ends; not `in_order`, where what
    they leave behind is dropped anyway.
    """
    environment = child_environment(
        settings,
        WORKER_PROCESSES=str(settings.worker_processes),
        WORKER_THREADS=str(settings.worker_threads),
        CHUNK_SIZE=str(settings.chunk_size),
        LOG_FORMAT="json",
        LOG_LEVEL="info",
    )
    with WorkerGroup(settings, log, code=ROOT, **environment) as group:
        yield group.ready(processes=settings.worker_processes).worker_ids()
        if not in_order:
            return
        with suppress(ProcessLookupError, TimeoutError):
            group.signal_all(signal.SIGTERM)
            group.wait_gone(deadline_seconds=_STOP_SECONDS)
