"""The hooks there are, by which what a peer posts is judged without asking Postgres each time."""

from collections.abc import Callable

import asyncpg

from db import hooks
from db.hooks import Hook
from producers.hooks import DUMMY_HOOK
from schemas.requests import MAX_ID
from web.cached_list import CachedList


class HookCache:
    """The hooks of a web process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._active_hooks = CachedList(pool, hooks.list_active_hooks, DUMMY_HOOK)

    async def find(
        self, hook_id: int | None, matches: Callable[[Hook], bool], *, use_list: bool
    ) -> Hook:
        """Return the hook, or DUMMY_HOOK; `use_list` from a list of those that are not revoked,
        where DUMMY_HOOK stands for one that is not right too.
        """
        if hook_id is None or not 0 < hook_id <= MAX_ID:
            return DUMMY_HOOK
        if use_list:
            return await self._active_hooks.find(hook_id, matches) or DUMMY_HOOK
        async with self._pool.acquire() as connection:
            return await hooks.get_hook(connection, hook_id) or DUMMY_HOOK
