"""A list of what Postgres has, by which guesses are judged without asking it each time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import asyncpg

T = TypeVar("T")

FRESH_SECONDS = 1.0
"""For how long what the list has counts before the list is read again."""

LEAST_SECONDS = 0.2
"""How long after the last reading the list is read again, at the earliest, for what it does not
have. All who ask until then wait for that reading, whatever they ask for."""


class FreshList(Generic[T]):
    """What `read` gives, by ids. What is in the list may be a second old.

    What is not in it may have been made a moment ago, so the list is read again before that is
    said: what is right is never refused, and guesses cost a few readings a second, however many
    they are. What it does not have is judged as `missing` is, which takes as long.
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
        self._turn = asyncio.Lock()
        self._read_at = float("-inf")
        self._listed: Mapping[int, T] = {}

    async def find(self, listed_id: int, is_right: Callable[[T], bool]) -> T | None:
        """Return what has this id and is right; None where there is none such by now."""
        asked_at = self._clock()
        if asked_at - self._read_at <= FRESH_SECONDS and (
            found := self._right(listed_id, is_right)
        ):
            return found
        async with self._turn:
            if self._read_at <= asked_at:
                await asyncio.sleep(self._read_at + LEAST_SECONDS - self._clock())
                await self._read_again()
        return self._right(listed_id, is_right)

    async def _read_again(self) -> None:
        began = self._clock()
        async with self._pool.acquire() as connection:
            self._listed = await self._read(connection)
        self._read_at = began

    def _right(self, listed_id: int, is_right: Callable[[T], bool]) -> T | None:
        found = self._listed.get(listed_id, self._missing)
        return found if is_right(found) and found is not self._missing else None
