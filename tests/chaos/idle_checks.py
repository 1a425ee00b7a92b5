"""Whether the fleet rests once there is nothing to do, also where jobs were stopped half done."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import psutil

from tests.chaos.acknowledgements import Violation
from tests.chaos.observer import Observer
from tests.kit.polling import becomes_true

NO_LANE_HELD = "no lane is taken while there is nothing to do"
IDLE = "an idle worker process takes hardly any processor time"

LOOK_SECONDS = 4.0
"""For so long the fleet is looked at."""

IDLE_TIMEOUT_SECONDS = 30.0
"""What the storm left behind, lanes of lost workers for instance, may take so long to be found."""

MAX_CORE_SHARE = 0.2


async def check_rest(
    observer: Observer,
    workers: Sequence[psutil.Process],
    *,
    seconds: float = LOOK_SECONDS,
    patience: float = IDLE_TIMEOUT_SECONDS,
    max_core_share: float = MAX_CORE_SHARE,
) -> list[Violation]:
    """Look at a fleet that has nothing to do, once its lanes stand still.

    Where they never do within the patience, the last look counts.
    """
    found: list[Violation] = []

    async def rests() -> bool:
        found[:] = await _look(observer, workers, seconds, max_core_share)
        return not found

    await becomes_true(patience, rests)
    return found


async def _look(
    observer: Observer,
    workers: Sequence[psutil.Process],
    seconds: float,
    max_core_share: float,
) -> list[Violation]:
    tokens, used = await observer.value("tokens"), [_seconds_used(worker) for worker in workers]
    await asyncio.sleep(seconds)
    moved = await observer.value("tokens") - tokens
    shares = [
        (worker.pid, (_seconds_used(worker) - before) / seconds)
        for worker, before in zip(workers, used, strict=True)
    ]
    return [
        *(
            [Violation(NO_LANE_HELD, f"{moved} changes of lanes in {seconds:.0f} s", moved)]
            if moved
            else []
        ),
        *(
            Violation(IDLE, f"process {pid}: {share:.0%} of a core")
            for pid, share in shares
            if share > max_core_share
        ),
    ]


def _seconds_used(worker: psutil.Process) -> float:
    """Its processor time so far; none of a process that has ended."""
    with suppress(psutil.NoSuchProcess):
        times = worker.cpu_times()
        return float(times.user + times.system)
    return 0.0
