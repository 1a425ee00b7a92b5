"""A key has what it was promised, at once and over time, and no other key is touched by it."""

from hypothesis import given
from hypothesis import strategies as st

from producers.http.rate_limit import RateLimit

KEY, OTHER = 1, 2


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


rates = st.floats(min_value=0.01, max_value=5_000)
pauses = st.lists(st.floats(min_value=0, max_value=10), max_size=60)


@given(per_second=rates, pauses=pauses)
def test_never_more_than_a_second_and_the_time_that_passed_give(per_second, pauses) -> None:
    """Of however many requests at whatever moments, no more are let through than that."""
    clock, let_through = Clock(), 0
    limit = RateLimit(per_second, clock)
    for pause in pauses:
        clock.now += pause
        let_through += limit.wait_seconds(KEY) == 0
    assert let_through <= max(1.0, per_second) + sum(pauses) * per_second + 1e-6


@given(per_second=rates, pauses=pauses)
def test_who_waits_as_told_is_let_through(per_second, pauses) -> None:
    """The wait that is told is enough, and what was refused costs nothing."""
    clock = Clock()
    limit = RateLimit(per_second, clock)
    for pause in pauses:
        clock.now += pause
        wait = limit.wait_seconds(KEY)
        assert 0 <= wait <= 1 / per_second + 1e-9
        if wait:
            clock.now += wait + 1e-6
            assert limit.wait_seconds(KEY) == 0


@given(per_second=st.integers(min_value=1, max_value=50))
def test_a_second_s_worth_may_come_at_once(per_second) -> None:
    """So many and no more; another key still has all of its own."""
    limit = RateLimit(per_second, Clock())
    answers = [limit.wait_seconds(KEY) for _ in range(per_second + 1)]
    assert answers[:-1] == [0] * per_second
    assert answers[-1] > 0
    assert limit.wait_seconds(OTHER) == 0
