"""Check that the fleet is idle when there is nothing to do, even if jobs were stopped midway."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import psutil

from tests.chaos.acknowledgements import Violation
from tests.chaos.observer import Observer
from tests.kit.waiting import wait_for_async

NO_LANE_HELD = "no lane is held while there is nothing to do"
IDLE = "an idle worker process uses hardly any processor time"

LOOK_SECONDS = 4.0
"""How long the fleet is observed."""

IDLE_TIMEOUT_SECONDS = 30.0
"""How long recovery may take, such as that of lost workers' lanes."""

MAX_CORE_SHARE = 0.2


async def check_idle(
    observer: Observer,
    workers: Sequence[psutil.Process],
    *,
    seconds: float = LOOK_SECONDS,
    patience: float = IDLE_TIMEOUT_SECONDS,
    max_core_share: float = MAX_CORE_SHARE,
) -> list[Violation]:
    """Observe a fleet without work until it is idle, for `patience` seconds at most.

    Return the violations of the last observation.
    """
    found: list[Violation] = []

    async def rests() -> bool:
        found[:] = await _look(observer, workers, seconds, max_core_share)
        return not found

    await wait_for_async(rests, patience)
    return found


async def _look(
    observer: Observer,
    workers: Sequence[psutil.Process],
    seconds: float,
    max_core_share: float,
) -> list[Violation]:
    tokens, used = await observer.value("tokens"), [_seconds_used(worker) for worker in workers]
    await asyncio.sleep(seconds)
    changes = await observer.value("tokens") - tokens
    shares = [
        (worker.pid, (_seconds_used(worker) - before) / seconds)
        for worker, before in zip(workers, used, strict=True)
    ]
    return [
        *(
            [Violation(NO_LANE_HELD, f"{changes} changes of lanes in {seconds:.0f} s", changes)]
            if changes
            else []
        ),
        *(
            Violation(IDLE, f"process {pid}: {share:.0%} of a core")
            for pid, share in shares
            if share > max_core_share
        ),
    ]


def _seconds_used(worker: psutil.Process) -> float:
    """Return its processor time so far, or 0 if it has ended."""
    with suppress(psutil.NoSuchProcess):
        times = worker.cpu_times()
        return float(times.user + times.system)
    return 0.0
