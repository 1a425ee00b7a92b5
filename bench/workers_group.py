"""The worker processes that are measured, started as the Procfile starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.settings import Settings, environment_of_processes

_ROOT = Path(__file__).parent.parent
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02


@contextmanager
def running_workers(settings: Settings, log: Path) -> Iterator[list[int]]:
    """A group of worker processes with these settings; gives their process ids, the master's not.

    All of the group have ended when the context has, however it ends.
    """
    with log.open("wb") as output:
        master = subprocess.Popen(
            [sys.executable, "-m", "workers"],
            cwd=_ROOT,
            env=environment_of_processes(
                settings,
                QUEUE_NAMESPACE=settings.queue_namespace,
                WORKER_PROCESSES=str(settings.worker_processes),
                WORKER_THREADS=str(settings.worker_threads),
                CHUNK_SIZE=str(settings.chunk_size),
                LOG_FORMAT="json",
                LOG_LEVEL="info",
            ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _started(master, log, settings.worker_processes)
    finally:
        _stop(master)


def _started(master: subprocess.Popen[bytes], log: Path, processes: int) -> list[int]:
    deadline = time.monotonic() + _START_SECONDS
    while len(pids := _workers_in(log)) < processes:
        if master.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The workers did not start. Their log:\n{log.read_text()}")
        time.sleep(_POLL_SECONDS)
    return pids


def _workers_in(log: Path) -> list[int]:
    """The ids of the processes that said they started: a worker's name ends with its own."""
    pids = []
    for line in log.read_text().splitlines():
        if '"worker.started"' in line:
            with suppress(json.JSONDecodeError):
                pids.append(int(json.loads(line)["worker"].rpartition(".")[2]))
    return pids


def _stop(master: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(master.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        master.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(master.pid, signal.SIGKILL)
    master.wait()
