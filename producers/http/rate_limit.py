"""How many requests a key may make of this process."""

import time
from collections.abc import Callable


class RateLimit:
    """A bucket of tokens for each key, as large as what a second gives.

    Limits of several web processes add up; what one of them knows it need not ask anybody. Only
    keys that count have a bucket, so there are no more of them than keys were ever made.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._room = max(1.0, per_second)
        self._buckets: dict[int, tuple[float, float]] = {}

    def wait_seconds(self, key_id: int) -> float:
        """Take a token: 0 where there was one, and otherwise how long it takes until there is."""
        now = self._clock()
        tokens, at = self._buckets.get(key_id, (self._room, now))
        tokens = min(self._room, tokens + (now - at) * self._per_second)
        if tokens < 1.0:
            self._buckets[key_id] = (tokens, now)
            return (1.0 - tokens) / self._per_second
        self._buckets[key_id] = (tokens - 1.0, now)
        return 0.0
