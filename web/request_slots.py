"""Turns that requests take with what there is little of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

Release = Callable[[], None]
"""Gives a turn back; the second time it does nothing."""


class RequestSlots:
    """A limited number of slots, and fewer for each caller, so that no caller has all of them.

    If `limit` is None, all callers together may have any number.
    """

    def __init__(self, limit: int | None, per_caller: int) -> None:
        self._total = None if limit is None else asyncio.Semaphore(limit)
        self._per_caller = per_caller
        self._caller_semaphores: WeakValueDictionary[object, asyncio.Semaphore] = (
            WeakValueDictionary()
        )

    @asynccontextmanager
    async def hold(self, caller: object) -> AsyncIterator[None]:
        """Wait for a turn of the caller's, and hold it."""
        release = await self.acquire(caller)
        try:
            yield
        finally:
            release()

    async def acquire(self, caller: object) -> Release:
        """Wait for a turn of the caller's, and return what gives it back."""
        own = self._caller_semaphores.setdefault(caller, asyncio.Semaphore(self._per_caller))
        held = [own] if self._total is None else [own, self._total]
        taken: list[asyncio.Semaphore] = []

        def release() -> None:
            while taken:
                taken.pop().release()

        try:
            for semaphore in held:
                await semaphore.acquire()
                taken.append(semaphore)
        except BaseException:
            release()
            raise
        return release
