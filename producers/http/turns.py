"""Turns that requests take with what there is little of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """So many turns at a time, and fewer for each caller, so that no caller has all of them."""

    def __init__(self, most: int, of_each: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._of_each = of_each
        self._of_callers: WeakValueDictionary[object, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one_of(self, caller: object) -> AsyncIterator[None]:
        """Wait for a turn of the caller's, and hold it."""
        own = self._of_callers.setdefault(caller, asyncio.Semaphore(self._of_each))
        async with own, self._all:
            yield
