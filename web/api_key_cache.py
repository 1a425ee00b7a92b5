"""API keys that were used a moment ago, so that not every request has to query Postgres."""

import asyncio
import hmac
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import asyncpg

from db import keys
from producers.keys import Caller, find_caller, parse_key
from web.cached_list import CachedList

KEY_CACHE_SECONDS = 1.0
"""How long a key is valid without asking Postgres again: a revocation takes that long."""

USAGE_WRITE_SECONDS = 60.0
"""The minimum time between two records of a key's use."""


class ApiKeyCache:
    """The callers of a web process. Invalid keys are not kept, so guesses take no memory."""

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._callers: dict[str, tuple[float, Caller]] = {}
        self._written_at: dict[int, float] = {}
        self._unwritten: defaultdict[int, set[int]] = defaultdict(set)
        self._usage_write: asyncio.Task[None] | None = None
        self._digests = CachedList(pool, keys.list_active_digests, b"", clock)

    def find(self, key: str) -> Caller | None:
        """Return the caller if the key was valid a second ago; None if it has to be looked up."""
        until, caller = self._callers.get(key, (0.0, None))
        return caller if self._clock() < until else None

    async def authenticate(self, key: str) -> Caller | None:
        """Return the caller if the key is valid, or was a second ago at most."""
        if (cached := self.find(key)) is not None:
            return cached
        requested_at = self._clock()
        async with self._pool.acquire() as connection:
            caller = await find_caller(connection, key)
        if caller is None:
            self._callers.pop(key, None)
        else:
            until = requested_at + min(KEY_CACHE_SECONDS, caller.seconds_left)
            self._callers[key] = (until, caller)
            self._schedule_usage_write(caller, requested_at)
        return caller

    async def is_listed(self, key: str) -> bool:
        """Return whether a list of valid keys, at most a second old, has this key."""
        key_id, digest = parse_key(key)
        if not key_id:
            return False
        matches = partial(hmac.compare_digest, digest)
        return await self._digests.find(key_id, matches) is not None

    async def is_active(self, caller: Caller) -> bool:
        """Return whether the caller's key is still valid."""
        async with self._pool.acquire() as connection:
            return await keys.is_active(connection, caller.account_id, caller.key_id)

    def _schedule_usage_write(self, caller: Caller, now: float) -> None:
        """Record the use in the background, at most once a minute."""
        if now - self._written_at.get(caller.key_id, float("-inf")) < USAGE_WRITE_SECONDS:
            return
        self._written_at[caller.key_id] = now
        self._unwritten[caller.account_id].add(caller.key_id)
        if self._usage_write is None or self._usage_write.done():
            self._usage_write = asyncio.create_task(self._write_usage())

    async def _write_usage(self) -> None:
        while self._unwritten:
            account_id, key_ids = self._unwritten.popitem()
            try:
                async with self._pool.acquire() as connection:
                    await keys.record_use(connection, account_id, sorted(key_ids))
            except Exception:  # noqa: BLE001 - no request may fail for this
                # The key's next use after a minute records it.
                return
