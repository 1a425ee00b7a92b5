"""Each key gets its allowed rate, in bursts and over time, independently of other keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.settings import Settings
from web.problems import Problem
from web.rate_limit import RateLimiter, UploadLimiter

KEY, OTHER = 1, 2


class Clock:
    """A clock whose time the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Return the time that the test has set."""
        return self.now


rates = st.floats(min_value=0.01, max_value=5_000)
pauses = st.lists(st.floats(min_value=0, max_value=10), max_size=60)


@given(per_second=rates, pauses=pauses)
def test_requests_never_exceed_the_burst_and_the_rate(per_second, pauses) -> None:
    """Any number of requests at any times never exceeds one second's worth plus the
    rate over time.
    """
    clock, let_through = Clock(), 0
    limit = RateLimiter(per_second, clock)
    for pause in pauses:
        clock.now += pause
        let_through += limit.take_token(KEY) == 0
    assert let_through <= max(1.0, per_second) + sum(pauses) * per_second + 1e-6


@given(per_second=rates, pauses=pauses)
def test_a_request_after_the_stated_wait_passes(per_second, pauses) -> None:
    """The stated wait is long enough, and rejected requests cost nothing."""
    clock = Clock()
    limit = RateLimiter(per_second, clock)
    for pause in pauses:
        clock.now += pause
        wait = limit.take_token(KEY)
        assert 0 <= wait <= 1 / per_second + 1e-9
        if wait:
            clock.now += wait + 1e-6
            assert limit.take_token(KEY) == 0


@given(per_second=st.integers(min_value=1, max_value=50))
def test_a_burst_of_one_second_passes(per_second) -> None:
    """One second's worth of requests passes, the next one does not, and another key
    is unaffected.
    """
    limit = RateLimiter(per_second, Clock())
    answers = [limit.take_token(KEY) for _ in range(per_second + 1)]
    assert answers[:-1] == [0] * per_second
    assert answers[-1] > 0
    assert limit.take_token(OTHER) == 0


def test_concurrent_uploads_of_a_key_are_limited() -> None:
    """A further file is rejected, whatever its size, until an earlier upload has ended."""
    limit = UploadLimiter(Settings(max_concurrent_uploads=2, max_concurrent_upload_bytes=10_000))
    with limit.hold(KEY, 10), limit.hold(KEY, 0):
        with pytest.raises(Problem), limit.hold(KEY, 0):
            pass
        with limit.hold(OTHER, 0):
            pass
    with limit.hold(KEY, 0):
        pass


def test_concurrent_upload_bytes_of_a_key_are_limited() -> None:
    """Declared bytes and bytes beyond the declaration count; a single upload may
    exceed the limit.
    """
    limit = UploadLimiter(Settings(max_concurrent_upload_bytes=10_000))
    with limit.hold(KEY, 90_000) as count_bytes:
        count_bytes(90_001)
        with pytest.raises(Problem), limit.hold(KEY, 1):
            pass
    with limit.hold(KEY, 6_000) as count_bytes:
        count_bytes(6_000)
        with limit.hold(KEY, 0) as other:
            other(4_000)
            with pytest.raises(Problem):
                other(1)
            count_bytes(0)
            with pytest.raises(Problem):
                count_bytes(1)
    with limit.hold(KEY, 10_000), pytest.raises(Problem), limit.hold(KEY, 1):
        pass
