"""A cached list of rows, so that guesses of ids and secrets do not each query Postgres."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import asyncpg

T = TypeVar("T")

CACHE_SECONDS = 1.0
"""How long the entries of the list are valid before it is read again."""

MIN_REFRESH_SECONDS = 0.2
"""The minimum time between two readings for missing entries. All who ask for one meanwhile wait
for the same reading."""


class CachedList(Generic[T]):
    """The rows that `read` returns, by id. They are at most a second old.

    A missing entry may be new, so the list is read again before it counts as missing. Valid
    requests are never rejected, and guesses cost a few readings a second, however many they are. If
    an entry is missing, `missing` is compared in its place. So the time does not tell which exist.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        read: Callable[[Any], Awaitable[Mapping[int, T]]],
        missing: T,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._read = read
        self._missing = missing
        self._clock = clock
        self._lock = asyncio.Lock()
        self._read_at = float("-inf")
        self._listed: Mapping[int, T] = {}

    async def find(self, entry_id: int, matches: Callable[[T], bool]) -> T | None:
        """Return the entry with this id if it matches; None if it does not exist."""
        requested_at = self._clock()
        if requested_at - self._read_at <= CACHE_SECONDS and (
            found := self._match(entry_id, matches)
        ):
            return found
        async with self._lock:
            if self._read_at <= requested_at:
                await asyncio.sleep(self._read_at + MIN_REFRESH_SECONDS - self._clock())
                await self._refresh()
        return self._match(entry_id, matches)

    async def _refresh(self) -> None:
        began = self._clock()
        async with self._pool.acquire() as connection:
            self._listed = await self._read(connection)
        self._read_at = began

    def _match(self, entry_id: int, matches: Callable[[T], bool]) -> T | None:
        found = self._listed.get(entry_id, self._missing)
        return found if matches(found) and found is not self._missing else None
