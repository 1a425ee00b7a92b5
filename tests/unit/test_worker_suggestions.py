"""How many workers are suggested for a load, and how a fleet that follows behaves."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.queue_stats import QueueLoad
from db.sweeps import Suggestion
from producers.scaling import (
    HOLD_SECONDS,
    OPT_OUTS_SHARE,
    Capacity,
    count_needed_dynos,
    next_suggestion,
)
from runtime.settings import Settings

DYNO = Capacity.from_settings(Settings())

queues = st.sampled_from(["opt_outs", "bulk"])
lanes = st.integers(min_value=0, max_value=10**4)
work = st.floats(min_value=0, max_value=10**7)
capacities = st.builds(
    Capacity,
    chunks=st.integers(1, 64),
    lanes=st.integers(1, 64),
    max_workers=st.integers(1, 100),
    target_delay_seconds=st.floats(1, 10_000),
)


def load(queue: str, work_seconds: float = 0.0, lanes: int = 0, oldest: float = 0.0) -> QueueLoad:
    """Return the load of a queue, which is idle by default."""
    return QueueLoad(queue, lanes, 0, oldest, 1, work_seconds, lanes)


@st.composite
def both_queues(draw: st.DrawFn) -> list[QueueLoad]:
    """Draw the load of each queue."""
    return [load(queue, draw(work), draw(lanes)) for queue in ("bulk", "opt_outs")]


@given(before=both_queues(), queue=queues, more=work, wider=lanes, capacity=capacities)
def test_more_work_never_needs_fewer(before, queue, more, wider, capacity) -> None:
    """Additional work never lowers the number of workers."""
    after = [
        each._replace(work_seconds=each.work_seconds + more, lanes=each.lanes + wider)
        if each.queue == queue
        else each
        for each in before
    ]
    assert count_needed_dynos(after, capacity) >= count_needed_dynos(before, capacity) >= 1


@given(loads=both_queues(), capacity=capacities)
def test_no_more_workers_are_needed_than_find_work(loads, capacity) -> None:
    """There are never more workers than MAX_WORKERS, or than fill the usable lanes."""
    needed = count_needed_dynos(loads, capacity)
    usable = math.ceil(sum(each.lanes for each in loads) / capacity.lanes)
    assert 1 <= needed <= min(capacity.max_workers, max(1, usable))


@given(seconds=work, capacity=capacities)
def test_opt_outs_need_at_least_as_many_workers(seconds, capacity) -> None:
    """Urgent work needs at least as many workers as the same bulk work."""
    urgent, bulk = (
        count_needed_dynos([load(queue, seconds, 10**4)], capacity)
        for queue in ("opt_outs", "bulk")
    )
    assert urgent >= bulk


@given(
    needs=st.lists(
        st.tuples(st.integers(1, 100), st.floats(-1_000, 1_000)), min_size=1, max_size=60
    )
)
def test_the_suggestion_is_a_recent_need(needs) -> None:
    """The suggestion is at least the current need and at most the highest past one. After two holds
    of low need it falls to that need, even if Postgres's clock jumps.
    """
    before: Suggestion | None = None
    now = 10_000.0
    for needed, seconds in needs:
        now += seconds
        before = next_suggestion(before, needed, now)
        assert needed <= before.workers <= max(each for each, _ in needs)
    for _ in range(3):
        now += HOLD_SECONDS + 1
        before = next_suggestion(before, 1, now)
    assert before is not None
    assert before.workers == 1


@given(needs=st.lists(st.integers(1, 20), min_size=1, max_size=400), poll=st.floats(1, 60))
def test_the_suggestion_falls_at_most_once_per_hold(needs, poll) -> None:
    """For any sequence of needs, a decrease follows another one only after a hold."""
    before: Suggestion | None = None
    fell_at = []
    for n, needed in enumerate(needs):
        after = next_suggestion(before, needed, n * poll)
        if before is not None and after.workers < before.workers:
            fell_at.append(n * poll)
        before = after
    assert all(b - a > HOLD_SECONDS for a, b in pairwise(fell_at))


@pytest.mark.parametrize(
    ("loads", "workers"),
    [
        ([load("bulk"), load("opt_outs")], 1),
        ([load("bulk", 240, 100), load("opt_outs")], 1),
        ([load("bulk", 241, 100), load("opt_outs")], 2),
        ([load("bulk", 10**6, 8), load("opt_outs")], 2),
        ([load("bulk", 10**6, 100), load("opt_outs")], 4),
        ([load("bulk"), load("opt_outs", 31, 100)], 2),
        ([load("bulk"), load("opt_outs", 31, 3)], 1),
        ([load("bulk", 120, 8), load("opt_outs", 31, 8)], 2),
        ([load("bulk", 10, 8, oldest=100_000)], 1),
    ],
)
def test_the_figures_of_the_runbook(loads, workers) -> None:
    """Bulk work may take two minutes, opt-outs 15 seconds, and one job uses two workers."""
    assert count_needed_dynos(loads, DYNO) == workers


# A simulated fleet that follows the suggestions.

TARGET = DYNO.target_delay_seconds


@dataclass
class Job:
    """A job of chunks that take `chunk_seconds` each. `remaining` is seconds of work."""

    queue: str
    arrives: int
    remaining: float
    chunk_seconds: float = 0.1
    ended: int | None = None

    def lanes(self) -> int:
        """Return how many lanes the rest of the job can use."""
        return min(8, math.ceil(self.remaining / self.chunk_seconds))


@dataclass
class Fleet:
    """A simulated fleet: when each dyno is ready, and the suggestions so far."""

    poll_seconds: int
    startup_seconds: int
    ready_at: list[int] = field(default_factory=lambda: [0])
    suggested: list[int] = field(default_factory=list)
    suggestion: Suggestion | None = None

    def poll(self, loads: list[QueueLoad], now: int) -> None:
        """Ask for a suggestion as the platform does, and start or end dynos."""
        self.suggestion = next_suggestion(
            self.suggestion, count_needed_dynos(loads, DYNO), float(now)
        )
        wanted = self.suggestion.workers
        self.suggested.append(wanted)
        self.ready_at = sorted(self.ready_at)[:wanted]
        self.ready_at += [now + self.startup_seconds] * (wanted - len(self.ready_at))

    def work(self, jobs: list[Job], now: int) -> None:
        """Work for a second: urgent jobs first, each in at most its usable lanes."""
        seconds = float(DYNO.chunks * sum(ready <= now for ready in self.ready_at))
        for job in sorted(jobs, key=lambda job: (job.queue == "bulk", job.arrives)):
            used = min(seconds, job.lanes(), job.remaining)
            seconds -= used
            job.remaining -= used
            if job.remaining <= 0:
                job.ended = now


def drive(jobs: list[Job], fleet: Fleet, seconds: int) -> None:
    """Simulate the fleet for these seconds, with jobs as they arrive."""
    for now in range(seconds):
        active = [job for job in jobs if job.arrives <= now and job.ended is None]
        if now % fleet.poll_seconds == 0:
            fleet.poll([measured_load(queue, active) for queue in ("bulk", "opt_outs")], now)
        fleet.work(active, now)


def measured_load(queue: str, jobs: list[Job]) -> QueueLoad:
    """Return the measured load of the jobs of a queue."""
    own = [job for job in jobs if job.queue == queue]
    return load(queue, sum(job.remaining for job in own), sum(job.lanes() for job in own))


def one_large_job() -> list[Job]:
    """Return one job that keeps every worker busy for a while."""
    return [Job("bulk", 5, 400.0)]


def several_large_jobs() -> list[Job]:
    """Return four jobs that arrive a second apart."""
    return [Job("bulk", 5 + n, 200.0) for n in range(4)]


def waves() -> list[Job]:
    """Return small jobs every 70 s, first increasing in number, then decreasing."""
    sizes = [100, 300, 600, 900, 900, 900, 600, 300, 100]
    return [Job("bulk", 70 * n, 0.5) for n, size in enumerate(sizes) for _ in range(size)]


def trickle_and_burst() -> list[Job]:
    """Return a job every 10 s, with six hundred opt-outs in the middle."""
    trickle = [Job("bulk", n, 5.0) for n in range(0, 900, 10)]
    return trickle + [Job("opt_outs", 300 + n // 100, 0.2) for n in range(600)]


@pytest.mark.parametrize(("poll_seconds", "startup_seconds"), [(10, 20), (12, 25), (15, 30)])
@pytest.mark.parametrize(
    ("curve", "bulk_seconds", "most"),
    [
        (one_large_job, TARGET, 2),
        (several_large_jobs, TARGET, 4),
        (waves, TARGET, 3),
        (trickle_and_burst, TARGET, 4),
    ],
)
def test_a_fleet_that_follows_converges(
    curve: Callable[[], list[Job]],
    bulk_seconds: float,
    most: int,
    poll_seconds: int,
    startup_seconds: int,
) -> None:
    """Work is done within the target delay plus the start time of a dyno. The fleet grows, shrinks
    back to one, and does not oscillate.
    """
    jobs = curve()
    fleet = Fleet(poll_seconds, startup_seconds)
    drive(jobs, fleet, max(job.arrives for job in jobs) + 900)
    to_start = poll_seconds + startup_seconds
    assert all(job.ended is not None for job in jobs)
    waits = {"bulk": 0, "opt_outs": 0}
    for job in jobs:
        waits[job.queue] = max(waits[job.queue], (job.ended or 0) - job.arrives)
    assert waits["bulk"] <= bulk_seconds + to_start
    assert waits["opt_outs"] <= TARGET * OPT_OUTS_SHARE + to_start
    assert max(fleet.suggested) == most
    assert fleet.suggested[-1] == 1
    assert turns(fleet.suggested) <= 1


def turns(suggestions: list[int]) -> int:
    """Return how often a rise is followed by a fall, or a fall by a rise."""
    ways = [b > a for a, b in pairwise(suggestions) if a != b]
    return sum(a != b for a, b in pairwise(ways))
