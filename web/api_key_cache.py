"""API keys that were asked for a moment ago, so that not each request asks Postgres whose it is."""

import asyncio
import hmac
import time
from collections import defaultdict
from collections.abc import Callable

import asyncpg

from db import keys
from producers.keys import Caller, find_caller, parse_key_token
from web.cached_list import CachedList

KEY_CACHE_SECONDS = 1.0
"""For how long a key counts without Postgres being asked again: so late may a revocation be."""

USAGE_WRITE_SECONDS = 60.0
"""How often it is noted at most that a key was used."""


class ApiKeyCache:
    """The callers of a web process. Of keys that do not count nothing is kept, so that there are no
    more of them here than were ever made.
    """

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._callers: dict[str, tuple[float, Caller]] = {}
        self._noted: dict[int, float] = {}
        self._to_note: defaultdict[int, set[int]] = defaultdict(set)
        self._noting: asyncio.Task[None] | None = None
        self._digests = CachedList(pool, keys.list_active_digests, b"", clock)

    async def authenticate(self, token: str) -> Caller | None:
        """Return the caller whose key this is, or was a second ago; None if it is not valid."""
        requested_at = self._clock()
        until, caller = self._callers.get(token, (0.0, None))
        if caller is not None and requested_at < until:
            return caller
        async with self._pool.acquire() as connection:
            caller = await find_caller(connection, token)
        if caller is None:
            self._callers.pop(token, None)
        else:
            self._callers[token] = (
                requested_at + min(KEY_CACHE_SECONDS, caller.seconds_left),
                caller,
            )
            self._schedule_usage_write(caller, requested_at)
        return caller

    async def is_listed(self, token: str) -> bool:
        """Tell whether this is a key that counts, or was a second ago, by a list of all."""
        key_id, digest = parse_key_token(token)
        if not key_id:
            return False

        def matches(listed: bytes) -> bool:
            return hmac.compare_digest(listed, digest)

        return await self._digests.find(key_id, matches) is not None

    async def is_active(self, caller: Caller) -> bool:
        """Tell whether the caller's key counts still."""
        async with self._pool.acquire() as connection:
            return await keys.is_active(connection, caller.account_id, caller.key_id)

    def _schedule_usage_write(self, caller: Caller, now: float) -> None:
        """Have it noted, if that was not done a minute ago; nobody waits for it."""
        if now - self._noted.get(caller.key_id, float("-inf")) < USAGE_WRITE_SECONDS:
            return
        self._noted[caller.key_id] = now
        self._to_note[caller.account_id].add(caller.key_id)
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._write_usage())

    async def _write_usage(self) -> None:
        while self._to_note:
            account_id, key_ids = self._to_note.popitem()
            try:
                async with self._pool.acquire() as connection:
                    await keys.record_use(connection, account_id, sorted(key_ids))
            except Exception:  # noqa: BLE001 - whatever it is, it is worth no request
                # The next minute notes it.
                return
