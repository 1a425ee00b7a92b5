"""Suggest a number of workers, for platforms that start and stop them by such a figure."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, Self

from db.queue_stats import QueueLoad
from db.sweeps import Suggestion
from runtime.settings import Settings

OPT_OUTS_SHARE = 1 / 8
"""The share of the target delay that applies to opt-outs."""

HOLD_SECONDS = 120.0
"""How long to keep a worker that was needed: a platform takes half a minute to start one, and the
next jobs often come within a minute or two."""


class Capacity(NamedTuple):
    """What one worker dyno does at the same time, and the limits of a suggestion."""

    chunks: int
    lanes: int
    max_workers: int
    target_delay_seconds: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the capacity of a dyno that has these settings."""
        chunks = min(settings.chunks_per_process, settings.worker_threads)
        return cls(
            chunks=settings.worker_processes * chunks,
            lanes=settings.worker_processes * settings.worker_threads,
            max_workers=settings.max_workers,
            target_delay_seconds=settings.target_delay_seconds,
        )

    def delay(self, queue: str) -> float:
        """Return in how many seconds the queue's work should be done."""
        return self.target_delay_seconds * (OPT_OUTS_SHARE if queue == "opt_outs" else 1.0)


def needed_workers(loads: Sequence[QueueLoad], capacity: Capacity) -> int:
    """Return how many `worker` dynos do the waiting work within the target delay; at least 1.

    There are never more than have a lane, nor than MAX_WORKERS; more work never needs fewer. The
    age of work is ignored: the last chunk of a large job grows old although all is well.
    """
    by_work = sum(
        load.work_seconds / (capacity.chunks * capacity.delay(load.queue)) for load in loads
    )
    usable = ceil(sum(load.lanes for load in loads) / capacity.lanes)
    return max(1, min(usable, capacity.max_workers, ceil(by_work)))


def next_suggestion(before: Suggestion | None, needed: int, now: float) -> Suggestion:
    """Return the next suggestion: more workers without delay, fewer only after `HOLD_SECONDS`.

    It is then the most that was needed in that time, so that waves of work do not start and stop
    workers in turn. `before` is the last suggestion of any process.
    """
    if before is None or needed >= before.workers:
        # Without work there is nothing to hold, and nothing to write.
        at_rest = before is not None and before.workers == needed == 1
        return before if before and at_rest else Suggestion(needed, 1, now)
    elapsed = now - before.at
    if 0 <= elapsed <= HOLD_SECONDS:
        return before._replace(peak=max(before.peak, needed))
    # After a long time without requests, the peak is out of date.
    recent_peak = before.peak if 0 <= elapsed <= 2 * HOLD_SECONDS else 1
    return Suggestion(max(needed, recent_peak), 1, now)
