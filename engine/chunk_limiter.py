"""Which chunks a process works at the same time: few, and one under suspicion alone.

Chunks beside each other wait for each other inside Postgres and for its processors, and hold their
rows meanwhile. A process that is lost takes all its chunks with it; an attempt that was counted
beforehand says something about its chunk only if no other chunk can have been what ended it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLOT_SECONDS = 0.5
"""Some chunks' time. Whoever is inside for longer waits for somebody else: it does not count any
more, so that the work of other jobs does not wait with it.
"""


class _Slot:
    """What one of those inside takes up, until it is left for the first time."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._released = False

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._slots.release()


class ChunkLimiter:
    """The door of one process's event loop, through which chunks come in the order of asking.

    Ask before the chunk's transaction begins: whoever waits here holds nothing that others wait
    for.
    """

    def __init__(self, limit: int) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._entry_lock = asyncio.Lock()
        self._active = 0
        self._no_active = asyncio.Event()
        self._no_active.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Work a chunk beside at most `limit` - 1 others, but for those that do not get on with it,
        and beside none that is to be alone.
        """
        await self._slots.acquire()
        slot = _Slot(self._slots)
        try:
            async with self._entry_lock:
                self._active += 1
                self._no_active.clear()
            timer = asyncio.get_running_loop().call_later(SLOT_SECONDS, slot.release)
            try:
                yield
            finally:
                timer.cancel()
                self._active -= 1
                if not self._active:
                    self._no_active.set()
        finally:
            slot.release()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Work a chunk after those at work have ended, and before any other begins."""
        async with self._entry_lock:
            await self._no_active.wait()
            yield
