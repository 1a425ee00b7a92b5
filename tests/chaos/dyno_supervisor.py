"""A supervisor that restarts one process group of the fleet, as a platform does."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.chaos.acknowledgements import Violation
from tests.kit.worker_group import WorkerGroup

ENDS = "the fleet ends on SIGTERM"
ORPHANS = "no process outlives its group"

_RESTART_SECONDS = 1.0
_POLL_SECONDS = 0.1
_ORPHAN_SECONDS = 2.0
PLATFORM_KILLS_AFTER = 30.0
"""The time after SIGTERM at which a platform kills the remaining processes."""


class GroupExit(NamedTuple):
    """A group that ended: its exit status, and whether a fault ended it."""

    log: Path
    status: int
    was_injected: bool
    worker_ids: tuple[int, ...]


class DynoSupervisor:
    """Runs a group of processes, and starts the next one after it has ended.

    `start` starts the group of that number, counted from 1. `was_killed_by_work` tells whether a
    fault's work killed one of these processes.
    """

    def __init__(
        self,
        start: Callable[[int], WorkerGroup],
        *,
        processes: int,
        was_killed_by_work: Callable[[Sequence[int]], bool],
    ) -> None:
        self._start = start
        self._was_killed_by_work = was_killed_by_work
        self._runs = 0
        self._kill_at: float | None = None
        self.processes = processes
        self.group: WorkerGroup | None = None
        self.was_injected = False
        self.ended: list[GroupExit] = []
        self.violations: list[Violation] = []

    def start(self) -> None:
        """Start the next group."""
        self._runs += 1
        self.was_injected, self._kill_at = False, None
        self.group = self._start(self._runs)

    def is_ready(self) -> bool:
        """Return whether every process of the group has started."""
        return self.group is not None and len(self.group.worker_ids()) >= self.processes

    def end(self, signals: Sequence[signal.Signals]) -> None:
        """Send the signals to every process of the group."""
        if self.group is None:
            return
        self.was_injected = True
        self._kill_at = time.monotonic() + PLATFORM_KILLS_AFTER
        for number in signals:
            with suppress(ProcessLookupError):
                self.group.signal_all(number)

    def kill(self) -> None:
        """Kill the remaining processes."""
        if self.group is not None:
            self.group.kill()

    async def keep_running(self) -> None:
        """Start the next group whenever one has ended."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            assert self.group is not None
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self._refused_to_end(self.group)
            if self.group.process.poll() is not None:
                await self._note_end(self.group)
                await asyncio.sleep(_RESTART_SECONDS)
                self.start()

    def _refused_to_end(self, group: WorkerGroup) -> None:
        text = f"{group.log.name} was still running {PLATFORM_KILLS_AFTER:.0f} s after SIGTERM"
        self.violations.append(Violation(ENDS, text))
        group.abort()

    async def _note_end(self, group: WorkerGroup) -> None:
        ids = tuple(group.worker_ids())
        was_injected = self.was_injected or self._was_killed_by_work(ids)
        self.ended.append(GroupExit(group.log, group.process.returncode, was_injected, ids))
        try:
            await asyncio.to_thread(group.wait_gone, deadline_seconds=_ORPHAN_SECONDS)
        except TimeoutError:
            text = f"processes of {group.log.name} outlived their master"
            self.violations.append(Violation(ORPHANS, text))
            group.kill()
