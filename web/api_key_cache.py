"""API keys that were asked for a moment ago, so that not each request asks Postgres whose it is."""

import asyncio
import hmac
import time
from collections.abc import Callable

import asyncpg

from db import keys
from producers.keys import Caller, caller_of, claimed_by
from web.cached_list import FreshList

KNOWN_SECONDS = 1.0
"""For how long a key counts without Postgres being asked again: so late may a revocation be."""

NOTE_SECONDS = 60.0
"""How often it is noted at most that a key was used."""


class KnownKeys:
    """The callers of a web process. Of keys that do not count nothing is kept, so that there are no
    more of them here than were ever made.
    """

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._known: dict[str, tuple[float, Caller]] = {}
        self._noted: dict[int, float] = {}
        self._to_note: set[int] = set()
        self._noting: asyncio.Task[None] | None = None
        self._digests = FreshList(pool, keys.all_that_count, b"", clock)

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
            self._known[token] = (asked_at + min(KNOWN_SECONDS, caller.seconds_left), caller)
            self._note_used(caller.key_id, asked_at)
        return caller

    async def is_listed(self, token: str) -> bool:
        """Tell whether this is a key that counts, or was a second ago, by a list of all."""
        key_id, digest = claimed_by(token)
        if not key_id:
            return False

        def is_right(listed: bytes) -> bool:
            return hmac.compare_digest(listed, digest)

        return await self._digests.find(key_id, is_right) is not None

    async def counts(self, caller: Caller) -> bool:
        """Tell whether the caller's key counts still."""
        async with self._pool.acquire() as connection:
            return await keys.counts(connection, caller.key_id)

    def _note_used(self, key_id: int, now: float) -> None:
        """Have it noted, if that was not done a minute ago; nobody waits for it."""
        if now - self._noted.get(key_id, float("-inf")) < NOTE_SECONDS:
            return
        self._noted[key_id] = now
        self._to_note.add(key_id)
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note())

    async def _note(self) -> None:
        while self._to_note:
            key_ids = sorted(self._to_note)
            self._to_note.clear()
            try:
                async with self._pool.acquire() as connection:
                    await keys.note_used(connection, key_ids)
            except Exception:  # noqa: BLE001 - whatever it is, it is worth no request
                # The next minute notes it.
                return
