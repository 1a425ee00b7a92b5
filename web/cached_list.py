"""A list of what Postgres has, by which guesses are judged without asking it each time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import asyncpg

T = TypeVar("T")

CACHE_SECONDS = 1.0
"""For how long what the list has counts before the list is read again."""

MIN_REFRESH_SECONDS = 0.2
"""How long after the last reading the list is read again, at the earliest, for what it does not
have. All who ask until then wait for that reading, whatever they ask for."""


class CachedList(Generic[T]):
    """What `read` returns, by ids; up to a second old.

    An id that is not in it may be new, so the list is read again before the id is refused. What is
    right is never refused, and guesses cost a few reads a second, however many there are. An
    unknown id is judged as `missing` is, which takes as long.
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
        """Return what has this id and is right; None if there is none by now."""
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
