"""Slots that requests hold while they use something scarce."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from weakref import WeakValueDictionary

Release = Callable[[], None]
"""Frees a slot. A second call does nothing."""


class RequestSlots:
    """A limited number of slots, and a lower limit per caller, so that no caller holds them all.

    If `limit` is None, only the limit per caller counts.
    """

    def __init__(self, limit: int | None, per_caller: int) -> None:
        self._total = None if limit is None else asyncio.Semaphore(limit)
        self._per_caller = per_caller
        self._caller_semaphores: WeakValueDictionary[object, asyncio.Semaphore] = (
            WeakValueDictionary()
        )

    @asynccontextmanager
    async def hold(self, caller: object) -> AsyncIterator[None]:
        """Wait for a slot, and hold it within the context."""
        release = await self.acquire(caller)
        try:
            yield
        finally:
            release()

    async def acquire(self, caller: object) -> Release:
        """Wait for a slot, and return the function that frees it."""
        own = self._caller_semaphores.setdefault(caller, asyncio.Semaphore(self._per_caller))
        with ExitStack() as held:
            for semaphore in [own] if self._total is None else [own, self._total]:
                await semaphore.acquire()
                held.callback(semaphore.release)
            return held.pop_all().close
