"""The hooks there are, by which what a peer posts is judged without asking Postgres each time."""

from collections.abc import Callable

import asyncpg

from db import hooks
from db.hooks import Hook
from producers.hooks import NO_HOOK
from schemas.requests import MAX_ID
from web.cached_list import FreshList


class KnownHooks:
    """The hooks of a web process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._in_force = FreshList(pool, hooks.all_in_force, NO_HOOK)

    async def hook(
        self, hook_id: int | None, is_right: Callable[[Hook], bool], *, from_list: bool
    ) -> Hook:
        """Return the hook, or NO_HOOK; `from_list` from a list of those that are not revoked, where
        NO_HOOK stands for one that is not right too.
        """
        if hook_id is None or not 0 < hook_id <= MAX_ID:
            return NO_HOOK
        if from_list:
            return await self._in_force.find(hook_id, is_right) or NO_HOOK
        async with self._pool.acquire() as connection:
            return await hooks.hook_by_id(connection, hook_id) or NO_HOOK
