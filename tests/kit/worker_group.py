"""Worker processes that are started as the Procfile starts them, and ended in every possible way.

Chaos runs, benchmarks and acceptance tests all start theirs here.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from runtime.settings import Settings
from tests.kit.waiting import wait_for

ROOT = Path(__file__).parents[2]

_START_SECONDS = 120.0


class WorkerGroup:
    """One dyno: `python -m workers` in a process group of its own, with its log in a file.

    The processes get the necessary environment variables and those in `environment`. `prefix` is a
    command that runs the rest of its line elsewhere, such as on another host. `popen` replaces
    `subprocess.Popen`.
    """

    module = "workers"
    """The module that is run by `python -m`."""

    def __init__(
        self,
        settings: Settings,
        log: Path,
        *,
        code: Path = ROOT,
        prefix: Sequence[str] = (),
        popen: Callable[..., Any] = subprocess.Popen,
        **environment: str,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = popen(
                [*prefix, sys.executable, "-m", self.module],
                cwd=code,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(code),
                    "DATABASE_URL": settings.database_url or "",
                    "REDIS_URL": settings.redis_url or "",
                    "QUEUE_NAMESPACE": settings.queue_namespace,
                    "PGBOUNCER": str(settings.pgbouncer),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def lines(self) -> list[str]:
        """Return the lines of its log so far."""
        return self.log.read_text(errors="replace").splitlines()

    def worker_ids(self) -> list[int]:
        """Return the ids of the processes that logged their start; a worker's name ends with its
        id.
        """
        ids = []
        for line in self.lines():
            if '"worker.started"' in line:
                with suppress(json.JSONDecodeError):
                    ids.append(int(json.loads(line)["worker"].rpartition(".")[2]))
        return ids

    def ready(self, *, processes: int) -> Self:
        """Wait until every worker process has logged its start. Raises RuntimeError."""

        def started() -> bool:
            return len(self.worker_ids()) >= processes or self.process.poll() is not None

        if not wait_for(started, _START_SECONDS) or self.process.poll() is not None:
            raise RuntimeError(f"The workers did not start. Their log:\n{self.log.read_text()}")
        return self

    def members(self) -> list[psutil.Process]:
        """Return every living process of the group."""
        found = []
        for pid in psutil.pids():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                # Called often, for all processes of the machine: only the group's are opened.
                if os.getpgid(pid) != self.process.pid:
                    continue
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes without the master."""
        return [process for process in self.members() if process.pid != self.process.pid]

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of the group, as a platform does."""
        os.killpg(self.process.pid, number)

    def wait_gone(self, *, deadline_seconds: float) -> None:
        """Wait until no process of the group is left. Raises TimeoutError."""

        def gone() -> bool:
            self.process.poll()
            return not self.members()

        if not wait_for(gone, deadline_seconds):
            raise TimeoutError(f"processes of the group are left after {deadline_seconds} s")

    def abort(self) -> None:
        """Send SIGABRT to the remaining processes; PYTHONFAULTHANDLER makes them write their stacks
        first.
        """
        with suppress(ProcessLookupError):
            self.signal_all(signal.SIGABRT)
        self.process.wait()

    def kill(self) -> None:
        """Kill the remaining processes."""
        if self.members():
            with suppress(ProcessLookupError):
                self.signal_all(signal.SIGKILL)
        self.process.wait()
