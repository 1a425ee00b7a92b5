"""How much memory and processor time processes use while something is measured."""

import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psutil

_EVERY_SECONDS = 0.05
_USS_EVERY = 10
"""Memory that a process shares with nobody is dear to find out: once in so many samples."""

_MB = 1_000_000


@dataclass(slots=True)
class Peak:
    """The most memory that a process was seen with, in bytes.

    `rss` counts what forked processes share once for each of them, `uss` does not count it.
    """

    rss: int = 0
    uss: int = 0

    def as_mb(self) -> dict[str, float]:
        return {"rss_mb": round(self.rss / _MB, 1), "uss_mb": round(self.uss / _MB, 1)}


class Watch:
    """Samples processes in a thread of its own until it is left; `peaks` by process id."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.peaks = {pid: Peak() for pid in pids}
        self._processes = []
        for pid in self.peaks:
            # One that has ended meanwhile has no peak to show.
            with suppress(psutil.NoSuchProcess):
                self._processes.append(psutil.Process(pid))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        round_no = 0
        while True:
            over = self._over.wait(_EVERY_SECONDS)
            for process in self._processes:
                with suppress(psutil.Error):
                    self._sample(process, with_uss=over or round_no % _USS_EVERY == 0)
            if over:
                return
            round_no += 1

    def _sample(self, process: psutil.Process, *, with_uss: bool) -> None:
        peak = self.peaks[process.pid]
        seen: Any = process.memory_full_info() if with_uss else process.memory_info()
        peak.rss = max(peak.rss, seen.rss)
        if with_uss:
            peak.uss = max(peak.uss, seen.uss)


def cpu_seconds(pids: Iterable[int]) -> float:
    """The processor time that the living ones among the processes have used so far."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def machine_busy_seconds() -> float:
    """The processor time that all processes of the machine have used so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def cpu_seconds_of_trees(roots: Iterable[int]) -> float:
    """The processor time that these processes and all their descendants have used so far, with
    that of children which have ended and were waited for.
    """
    total = 0.0
    for root in roots:
        with suppress(psutil.Error):
            process = psutil.Process(root)
            for member in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    times = member.cpu_times()
                    total += times.user + times.system
                    total += times.children_user + times.children_system
    return total
