"""API keys that were asked for a moment ago, so that not each request asks Postgres whose it is."""

import time
from collections.abc import Callable

import asyncpg

from producers.keys import Caller, caller_of

KNOWN_SECONDS = 1.0
"""For how long a key counts without Postgres being asked again: so late may a revocation be."""


class KnownKeys:
    """The callers of a web process. Of keys that do not count nothing is kept, so that there are no
    more of them here than were ever made.
    """

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._known: dict[str, tuple[float, Caller]] = {}

    async def caller_of(self, token: str) -> Caller | None:
        """Whose key this is, or was a second ago; None where it is none."""
        asked_at = self._clock()
        until, caller = self._known.get(token, (0.0, None))
        if caller is not None and asked_at < until:
            return caller
        async with self._pool.acquire() as connection:
            caller = await caller_of(connection, token)
        if caller is None:
            self._known.pop(token, None)
        else:
            self._known[token] = (asked_at + KNOWN_SECONDS, caller)
        return caller
