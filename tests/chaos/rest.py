"""Whether the fleet rests once there is nothing to do, also where jobs were stopped half done."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import psutil

from tests.chaos.observer import Observer
from tests.chaos.records import Violation
from tests.chaos.waiting import within

AT_REST = "no lane is taken while there is nothing to do"
IDLE = "an idle worker process takes hardly any processor time"

LOOK_SECONDS = 4.0
"""For so long the fleet is looked at."""

COME_TO_REST_SECONDS = 30.0
"""What the storm left behind, lanes of lost workers for instance, may take so long to be found."""

MOST_OF_A_CORE = 0.2


async def check_rest(
    observer: Observer,
    workers: Sequence[psutil.Process],
    *,
    seconds: float = LOOK_SECONDS,
    patience: float = COME_TO_REST_SECONDS,
    most_of_a_core: float = MOST_OF_A_CORE,
) -> list[Violation]:
    """Look at a fleet that has nothing to do, once its lanes stand still.

    Where they never do within the patience, the last look counts.
    """
    found: list[Violation] = []

    async def rests() -> bool:
        found[:] = await _look(observer, workers, seconds, most_of_a_core)
        return not found

    await within(patience, rests)
    return found


async def _look(
    observer: Observer,
    workers: Sequence[psutil.Process],
    seconds: float,
    most_of_a_core: float,
) -> list[Violation]:
    hops, used = await observer.value("hops"), [_seconds_used(worker) for worker in workers]
    await asyncio.sleep(seconds)
    moved = await observer.value("hops") - hops
    shares = [
        (worker.pid, (_seconds_used(worker) - before) / seconds)
        for worker, before in zip(workers, used, strict=True)
    ]
    return [
        *([Violation(AT_REST, f"{moved} hops in {seconds:.0f} s", moved)] if moved else []),
        *(
            Violation(IDLE, f"process {pid}: {share:.0%} of a core")
            for pid, share in shares
            if share > most_of_a_core
        ),
    ]


def _seconds_used(worker: psutil.Process) -> float:
    """Its processor time so far; none of a process that has ended."""
    with suppress(psutil.NoSuchProcess):
        times = worker.cpu_times()
        return float(times.user + times.system)
    return 0.0
