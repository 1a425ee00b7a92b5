"""Worker processes, started as the Procfile starts them and ended in every way there is."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from runtime.settings import Settings
from tests.conditions import wait_until

ROOT = Path(__file__).parents[2]


class WorkerGroup:
    """One dyno: `python -m workers` in a process group of its own, its log in a file.

    `prefix` is a command that runs the rest of its line elsewhere, on another host for instance.
    """

    def __init__(
        self,
        settings: Settings,
        log: Path,
        *,
        code: Path = ROOT,
        prefix: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "workers"],
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
        return self.log.read_text().splitlines()

    def ready(self, *, processes: int) -> "WorkerGroup":
        """Wait until every worker process has said that it started."""

        def started() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return sum('"worker.started"' in line for line in self.lines()) >= processes

        wait_until(started, deadline_seconds=30, what="the workers started")
        return self

    def members(self) -> list[psutil.Process]:
        """Every living process of the group."""
        found = []
        for process in psutil.process_iter():
            try:
                group = os.getpgid(process.pid)
            except ProcessLookupError:
                continue
            if group == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """The worker processes, without the master."""
        return [process for process in self.members() if process.pid != self.process.pid]

    def signal_all(self, number: signal.Signals) -> None:
        """Signal every process of the group, as a platform does."""
        os.killpg(self.process.pid, number)

    def wait_gone(self, *, deadline_seconds: float) -> None:
        """Wait until no process of the group is left."""

        def gone() -> bool:
            self.process.poll()
            return not self.members()

        wait_until(gone, deadline_seconds=deadline_seconds, what="every process ended")

    def kill(self) -> None:
        """End whatever is left, at once."""
        if self.members():
            self.signal_all(signal.SIGKILL)
        self.process.wait()
