"""Which chunks a process works at the same time: any number, but one under suspicion alone.

A process that is lost takes all its chunks with it. An attempt that was counted beforehand says
something about its chunk only if no other chunk can have been what ended the process.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ChunkDoor:
    """The door of one process's event loop, through which chunks come in the order of asking.

    Ask before the chunk's transaction begins: whoever waits here holds nothing that others wait
    for.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def among_others(self) -> AsyncIterator[None]:
        """Work a chunk beside others, but not beside one that is to be alone."""
        async with self._turn:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work a chunk after those at work have ended, and before any other begins."""
        async with self._turn:
            await self._empty.wait()
            yield
