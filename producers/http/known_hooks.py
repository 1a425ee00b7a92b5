"""The hooks there are, by which what a peer posts is judged without asking Postgres each time."""

import asyncio
import time
from collections.abc import Callable

import asyncpg

from db import hooks
from db.hooks import Hook
from producers.hooks import NO_HOOK
from schemas.requests import MAX_ID

FRESH_SECONDS = 1.0
"""For how long the list of hooks is used before it is read again."""


class KnownHooks:
    """The hooks of a web process."""

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._turn = asyncio.Lock()
        self._read_at = float("-inf")
        self._in_force: dict[int, Hook] = {}

    async def hook(self, hook_id: int | None, *, from_list: bool) -> Hook:
        """Return the hook, or NO_HOOK; `from_list` from a list that is a second old at most."""
        if hook_id is None or not 0 < hook_id <= MAX_ID:
            return NO_HOOK
        if not from_list:
            async with self._pool.acquire() as connection:
                return await hooks.hook_by_id(connection, hook_id) or NO_HOOK
        async with self._turn:
            if self._clock() - self._read_at > FRESH_SECONDS:
                async with self._pool.acquire() as connection:
                    self._in_force = await hooks.all_in_force(connection)
                self._read_at = self._clock()
        return self._in_force.get(hook_id, NO_HOOK)
