"""Which chunks a process works on concurrently: a few, and a suspect one alone.

Concurrent chunks wait for each other inside Postgres and for its processors, and hold their rows
meanwhile. A lost process takes all its chunks with it. So an attempt that was counted beforehand
says something about its chunk only if no other chunk can have ended the process.
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
    """Limits the concurrent chunks of one process, in the order in which they ask.

    Ask before the chunk's transaction begins: a chunk that waits here holds nothing that others
    need.
    """

    def __init__(self, limit: int) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._entry_lock = asyncio.Lock()
        self._active = 0
        self._no_active = asyncio.Event()
        self._no_active.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Work on a chunk with at most `limit` - 1 others, and with none that must be alone.

        A chunk that takes longer than SLOT_SECONDS frees its place, so that others do not wait
        for it.
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
