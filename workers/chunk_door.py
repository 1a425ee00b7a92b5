"""Which chunks a process works at the same time: few, and one under suspicion alone.

Chunks beside each other wait for each other inside Postgres and for its processors, and hold their
rows meanwhile. A process that is lost takes all its chunks with it; an attempt that was counted
beforehand says something about its chunk only if no other chunk can have been what ended it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager


class ChunkDoor:
    """The door of one process's event loop, through which chunks come in the order of asking.

    Ask before the chunk's transaction begins: whoever waits here holds nothing that others wait
    for.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turn = asyncio.Lock()
        self._room = asyncio.Semaphore(most)

    @asynccontextmanager
    async def among_others(self) -> AsyncIterator[None]:
        """Work a chunk beside at most `most` - 1 others, and beside none that is to be alone."""
        async with self._turn:
            await self._room.acquire()
        try:
            yield
        finally:
            self._room.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work a chunk after those at work have ended, and before any other begins."""
        async with AsyncExitStack() as taken:
            async with self._turn:
                for _ in range(self._most):
                    await taken.enter_async_context(self._room)
            yield
