"""Turns that requests take with what there is little of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

GiveBack = Callable[[], None]
"""Gives a turn back; the second time it does nothing."""


class Turns:
    """So many turns at a time, and fewer for each caller, so that no caller has all of them.

    Where `most` is None, all callers together may have any number.
    """

    def __init__(self, most: int | None, of_each: int) -> None:
        self._all = None if most is None else asyncio.Semaphore(most)
        self._of_each = of_each
        self._of_callers: WeakValueDictionary[object, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one_of(self, caller: object) -> AsyncIterator[None]:
        """Wait for a turn of the caller's, and hold it."""
        give_back = await self.take(caller)
        try:
            yield
        finally:
            give_back()

    async def take(self, caller: object) -> GiveBack:
        """Wait for a turn of the caller's, and return what gives it back."""
        own = self._of_callers.setdefault(caller, asyncio.Semaphore(self._of_each))
        held = [own] if self._all is None else [own, self._all]
        taken: list[asyncio.Semaphore] = []

        def give_back() -> None:
            while taken:
                taken.pop().release()

        try:
            for semaphore in held:
                await semaphore.acquire()
                taken.append(semaphore)
        except BaseException:
            give_back()
            raise
        return give_back
