"""How many requests a key may make of this process, and how much it may upload at a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.settings import Settings


class RateLimiter:
    """A bucket of tokens for each key, as large as what a second gives.

    Each web process counts for itself, so limits add up and no other process is asked. Only valid
    keys have a bucket, so there are no more of them than keys.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._capacity = max(1.0, per_second)
        self._buckets: dict[int, tuple[float, float]] = {}

    def take_token(self, key_id: int) -> float:
        """Take a token: 0 where there was one, and otherwise how long it takes until there is."""
        now = self._clock()
        tokens, at = self._buckets.get(key_id, (self._capacity, now))
        tokens = min(self._capacity, tokens + (now - at) * self._per_second)
        if tokens < 1.0:
            self._buckets[key_id] = (tokens, now)
            return (1.0 - tokens) / self._per_second
        self._buckets[key_id] = (tokens - 1.0, now)
        return 0.0


class TooManyUploads(Exception):
    """The key uploads as many files, or as many bytes, as it may at a time."""


class UploadLimiter:
    """How many files each key uploads to this process now, and how many bytes of them came. A file
    counts until the request that brought it has been answered.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_files = settings.max_concurrent_uploads
        self.max_bytes = settings.max_concurrent_upload_bytes
        self._files: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()

    @contextmanager
    def hold(self, key_id: int, declared: int) -> Iterator[Callable[[int], None]]:
        """Take a place for a file of the key; raises TooManyUploads if there is none.

        Yield what counts the bytes as they arrive, and raises TooManyUploads too. A single file may
        be larger than the limit of all together: other limits hold for it.
        """
        if self._files[key_id] >= self.max_files:
            raise TooManyUploads
        if self._files[key_id] and self._bytes[key_id] + declared > self.max_bytes:
            raise TooManyUploads
        counted = declared
        received = 0

        def count_bytes(size: int) -> None:
            nonlocal counted, received
            received += size
            more = max(0, received - counted)
            if more and self._files[key_id] > 1 and self._bytes[key_id] + more > self.max_bytes:
                raise TooManyUploads
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
