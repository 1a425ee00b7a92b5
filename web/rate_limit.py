"""How many requests a key may send to this process, and how much it may upload at a time."""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.settings import Settings
from web.problems import TOO_MANY_REQUESTS, Problem

UPLOAD_RETRY_SECONDS = 10
"""The `Retry-After` for a key that uploads as much as it may."""


class RateLimiter:
    """A token bucket for each key, which holds what a second gives, or `capacity`.

    Each web process has its own, so that it need not ask another. Of more than `max_keys` keys,
    the one that was limited least recently is forgotten.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        capacity: float | None = None,
        max_keys: float = math.inf,
    ) -> None:
        self._per_second = per_second
        self._clock = clock
        self._capacity = max(1.0, per_second) if capacity is None else capacity
        self._max_keys = max_keys
        self._buckets: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def seconds_left(self, key: object) -> float:
        """Return how long it takes until there is a token; 0 if there is one."""
        return max(0.0, (1.0 - self._count_tokens(key)) / self._per_second)

    def take_token(self, key: object) -> float:
        """Take a token if there is one; return as `seconds_left` did before."""
        if seconds := self.seconds_left(key):
            return seconds
        self._buckets[key] = (self._count_tokens(key) - 1.0, self._clock())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0

    def _count_tokens(self, key: object) -> float:
        tokens, at = self._buckets.get(key, (self._capacity, 0.0))
        return min(self._capacity, tokens + (self._clock() - at) * self._per_second)


class UploadLimiter:
    """How many files and bytes each key uploads to this process at a time.

    A file counts until its request is answered.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_files = settings.max_concurrent_uploads
        self._max_bytes = settings.max_concurrent_upload_bytes
        self._files: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    @contextmanager
    def hold(self, key_id: int, declared: int) -> Iterator[Callable[[int], None]]:
        """Count a file of the key; raise Problem if it is one too many.

        Yield the function that counts bytes as they arrive, which may raise Problem too.
        A single file may exceed `max_bytes`: other limits apply to it.
        """
        files = self._files[key_id]
        is_beyond = self._bytes[key_id] + declared > self._max_bytes
        if files >= self._max_files or (files and is_beyond):
            raise self._problem()
        counted = declared
        received = 0

        def count_bytes(size: int) -> None:
            nonlocal counted, received
            received += size
            more = max(0, received - counted)
            if more and self._files[key_id] > 1 and self._bytes[key_id] + more > self._max_bytes:
                raise self._problem()
            counted += more
            self._bytes[key_id] += more

        self._files[key_id] += 1
        self._bytes[key_id] += declared
        try:
            yield count_bytes
        finally:
            self._files[key_id] -= 1
            self._bytes[key_id] -= counted
            if not self._files[key_id]:
                del self._files[key_id], self._bytes[key_id]

    def _problem(self) -> Problem:
        return Problem(
            TOO_MANY_REQUESTS,
            f"This key may upload {self._max_files} files and {self._max_bytes:,} bytes at a time."
            " Nothing was stored. Send this file again after another has been answered.",
            headers={"Retry-After": str(UPLOAD_RETRY_SECONDS)},
        )
