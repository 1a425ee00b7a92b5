"""Suggest a number of worker dynos, for platforms that start and stop them by such a figure."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, Self

from db.queue_stats import QueueLoad
from db.sweeps import Suggestion
from runtime.settings import Settings

OPT_OUTS_SHARE = 1 / 8
"""The share of the target delay that applies to opt-outs."""

HOLD_SECONDS = 120.0
"""How long to keep a worker dyno that was needed: a platform takes half a minute to start one, and
the next jobs often come within a minute or two."""


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


def count_needed_dynos(loads: Sequence[QueueLoad], capacity: Capacity) -> int:
    """Return how many worker dynos do the waiting work within the target delay; at least 1.

    Never more dynos than the waiting lanes can occupy, and never more than MAX_WORKERS. More work
    never lowers the number. The age of work is ignored: the last chunk of a large job grows old
    although all is well.
    """
    by_work = sum(
        load.work_seconds / (capacity.chunks * capacity.delay(load.queue)) for load in loads
    )
    usable = ceil(sum(load.lanes for load in loads) / capacity.lanes)
    return max(1, min(usable, capacity.max_workers, ceil(by_work)))


def next_suggestion(before: Suggestion | None, needed: int, now: float) -> Suggestion:
    """Return the next suggestion: more dynos without delay, fewer only after `HOLD_SECONDS`.

    After `HOLD_SECONDS`, suggest the highest number needed meanwhile, so that waves of work do not
    start and stop dynos in turn. `before` is the last suggestion of any process.
    """
    if before is None or needed >= before.workers:
        # At rest the suggestion stays, so nothing is written.
        at_rest = before is not None and before.workers == needed == 1
        return before if before and at_rest else Suggestion(needed, 1, now)
    elapsed = now - before.at
    if 0 <= elapsed <= HOLD_SECONDS:
        return before._replace(peak=max(before.peak, needed))
    # After a long time without requests, the peak is out of date.
    recent_peak = before.peak if 0 <= elapsed <= 2 * HOLD_SECONDS else 1
    return Suggestion(max(needed, recent_peak), 1, now)
