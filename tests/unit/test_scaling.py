"""How many workers are suggested for the work at hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.progress import QueueLoad
from producers.scaling import CHUNKS_PER_WORKER, suggested_workers

queues = st.sampled_from(["opt_outs", "bulk"])
chunks = st.integers(min_value=0, max_value=10**7)
ages = st.floats(min_value=0, max_value=10**7)


def load(queue: str, pending: int = 0, oldest: float = 0.0) -> QueueLoad:
    return QueueLoad(queue, pending, oldest, running_jobs=1)


@st.composite
def both_queues(draw: st.DrawFn) -> list[QueueLoad]:
    """What waits in each queue."""
    return [load(queue, draw(chunks), draw(ages)) for queue in ("bulk", "opt_outs")]


@given(before=both_queues(), queue=queues, more=chunks, older=ages)
def test_more_work_or_more_age_never_gives_fewer(before, queue, more, older) -> None:
    """Whatever waits, waiting longer or for more is no reason to end a worker."""
    after = [
        each._replace(
            pending_chunks=each.pending_chunks + more, oldest_seconds=each.oldest_seconds + older
        )
        if each.queue == queue
        else each
        for each in before
    ]
    assert suggested_workers(after) >= suggested_workers(before) >= 1


@given(loads=both_queues())
def test_no_worker_is_suggested_that_would_find_nothing(loads) -> None:
    """There are never more than chunks, but one."""
    assert suggested_workers(loads) <= max(1, sum(each.pending_chunks for each in loads))


@pytest.mark.parametrize(
    ("loads", "workers"),
    [
        ([load("bulk"), load("opt_outs")], 1),
        ([load("bulk", 40, 2), load("opt_outs")], 1),
        ([load("bulk", CHUNKS_PER_WORKER + 1, 2), load("opt_outs")], 2),
        ([load("bulk", 40, 290), load("opt_outs")], 1),
        ([load("bulk", 40, 310), load("opt_outs")], 2),
        ([load("bulk"), load("opt_outs", 40, 31)], 3),
        ([load("bulk"), load("opt_outs", 1, 3_000)], 1),
    ],
)
def test_the_figures_of_the_runbook(loads, workers) -> None:
    """Minutes are accepted for bulk work, seconds for opt-outs."""
    assert suggested_workers(loads) == workers
