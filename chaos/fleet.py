"""The storm's worker groups, and the platform that starts each again after it has ended."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from chaos.contact_lists import LIMIT
from chaos.records import Violation
from chaos.worker_group import WorkerGroup
from runtime.settings import Settings

PROCESSES = (2, 1, 1)
"""How many worker processes each group has."""

_ENVIRONMENT = {
    "WORKER_THREADS": "2",
    # Small, so that a job has many chunks and a fault meets some of them half done.
    "CHUNK_SIZE": "500",
    "JOB_LANES": "3",
    "SLICE_SECONDS": "0.3",
    "RETRY_SECONDS": "0.3",
    "WATCHDOG_SECONDS": "5",
    "SHARED_ADDRESS_LIMIT": str(LIMIT),
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}

_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_PLATFORM_KILLS_AFTER = 30.0
"""So long after SIGTERM a platform ends what is left."""

_ORPHAN_SECONDS = 2.0
READY_SECONDS = 60.0


class Ended(NamedTuple):
    """A group that ended: its exit status, and whether the storm had ended it."""

    log: Path
    status: int
    by_storm: bool
    worker_ids: tuple[int, ...]


class _Dyno:
    """One place of the fleet: a group after the other."""

    def __init__(self, number: int, processes: int) -> None:
        self.number = number
        self.processes = processes
        self.runs = 0
        self.group: WorkerGroup | None = None
        self.by_storm = False
        self.kill_at: float | None = None


class Fleet:
    """Keeps every group running until it is stopped. Ends of groups are kept in `ended`."""

    def __init__(self, settings: Settings, code: Path, logs: Path, tokens: Path) -> None:
        self._settings = settings
        self._code = code
        self._logs = logs
        self._tokens = tokens
        self._dynos = [_Dyno(n, processes) for n, processes in enumerate(PROCESSES, start=1)]
        self._keeping: asyncio.Task[None] | None = None
        self.ended: list[Ended] = []
        self.seen: list[Violation] = []

    def start(self) -> None:
        """Start every group, and from now on each again that has ended."""
        for dyno in self._dynos:
            self._start(dyno)
        self._keeping = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        async with asyncio.TaskGroup() as group:
            for dyno in self._dynos:
                group.create_task(self._keep(dyno))

    async def ready(self) -> bool:
        """Whether every worker process has started."""
        return all(
            dyno.group is not None and len(dyno.group.worker_ids()) >= dyno.processes
            for dyno in self._dynos
        )

    def workers(self) -> list[psutil.Process]:
        """The worker processes that have started and are at work."""
        return [
            process
            for dyno in self._dynos
            if dyno.group is not None
            for process in dyno.group.workers()
            if process.pid in dyno.group.worker_ids() and _runs(process)
        ]

    def end_worker(self, process: psutil.Process) -> None:
        """Kill one worker process; its group may end in consequence."""
        for dyno in self._dynos:
            if dyno.group and process.pid in dyno.group.worker_ids():
                dyno.by_storm = True
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def end_group(self, draw: float, signals: Sequence[signal.Signals]) -> int:
        """Send the signals to every process of a group by chance; gives its number."""
        dyno = self._dynos[int(draw * len(self._dynos))]
        if dyno.group is not None:
            dyno.by_storm = True
            dyno.kill_at = time.monotonic() + _PLATFORM_KILLS_AFTER
            for number in signals:
                with suppress(ProcessLookupError):
                    dyno.group.signal_all(number)
        return dyno.number

    async def stop(self) -> list[Violation]:
        """End the fleet as a platform does; gives what was left of it after its time was up."""
        await self._let_go()
        groups = [dyno.group for dyno in self._dynos if dyno.group is not None]
        for group in groups:
            with suppress(ProcessLookupError):
                group.signal_all(signal.SIGTERM)
        left = []
        for group in groups:
            try:
                await asyncio.to_thread(group.wait_gone, deadline_seconds=_PLATFORM_KILLS_AFTER)
            except TimeoutError as error:
                left.append(Violation("the fleet ends when it is asked to", str(error)))
        return left

    async def _let_go(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    def kill(self) -> None:
        """End whatever is left, at once."""
        if self._keeping is not None:
            self._keeping.cancel()
        for dyno in self._dynos:
            if dyno.group is not None:
                dyno.group.kill()

    def _start(self, dyno: _Dyno) -> None:
        dyno.runs += 1
        dyno.by_storm, dyno.kill_at = False, None
        dyno.group = WorkerGroup(
            self._settings,
            self._logs / f"group-{dyno.number}.{dyno.runs:03}.log",
            code=self._code,
            WORKER_PROCESSES=str(dyno.processes),
            DYNO=f"worker.{dyno.number}",
            **_ENVIRONMENT,
        )

    async def _keep(self, dyno: _Dyno) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            assert dyno.group is not None
            if dyno.kill_at is not None and time.monotonic() > dyno.kill_at:
                dyno.group.kill()
            if dyno.group.process.poll() is not None:
                await self._note_end(dyno, dyno.group)
                await asyncio.sleep(_RESTART_SECONDS)
                self._start(dyno)

    async def _note_end(self, dyno: _Dyno, group: WorkerGroup) -> None:
        ids = tuple(group.worker_ids())
        # A worker that was killed by its own work, or by the watchdog, has left a note.
        own_doing = any(
            list(self._tokens.glob(f"*/{what}.{pid}"))
            for what in ("killed", "blocked")
            for pid in ids
        )
        status = group.process.returncode
        self.ended.append(Ended(group.log, status, dyno.by_storm or own_doing, ids))
        try:
            await asyncio.to_thread(group.wait_gone, deadline_seconds=_ORPHAN_SECONDS)
        except TimeoutError:
            text = f"processes of {group.log.name} lived on after their master had ended"
            self.seen.append(Violation("no process outlives its group", text))
            group.kill()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
