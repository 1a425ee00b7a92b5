"""Which chunks a process works on concurrently: a few, or one suspect chunk alone.

More concurrent chunks would wait for each other inside Postgres, and hold their row locks for
longer. A lost process takes all its chunks with it. So a loss says something about a suspect chunk
only if the process worked on no other one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

SLOT_SECONDS = 0.5
"""How long a chunk counts against the limit; most take far less. A chunk that is still in work then
waits for another transaction, and the work of other jobs must not wait with it.
"""


class ChunkLimiter:
    """Limits the concurrent chunks of one process, first come, first served.

    Enter before the chunk's transaction begins: a chunk that waits here then holds no lock.
    """

    def __init__(self, limit: int) -> None:
        self._slots = asyncio.Semaphore(limit)
        self._entry_lock = asyncio.Lock()
        self._active = 0
        self._no_active = asyncio.Event()
        self._no_active.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Work on a chunk with about `limit` - 1 others, but with no exclusive one.

        A chunk frees its slot after SLOT_SECONDS, so that others do not wait for it.
        """
        await self._slots.acquire()
        # Closing it twice releases once.
        with ExitStack() as slot:
            slot.callback(self._slots.release)
            async with self._entry_lock:
                self._active += 1
                self._no_active.clear()
            timer = asyncio.get_running_loop().call_later(SLOT_SECONDS, slot.close)
            try:
                yield
            finally:
                timer.cancel()
                self._active -= 1
                if not self._active:
                    self._no_active.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Work on a chunk after the active ones have ended, and before any other begins."""
        async with self._entry_lock:
            await self._no_active.wait()
            yield
