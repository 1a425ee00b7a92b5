"""Which chunks a process works at the same time: few, and one under suspicion alone.

Chunks beside each other wait for each other inside Postgres and for its processors, and hold their
rows meanwhile. A process that is lost takes all its chunks with it; an attempt that was counted
beforehand says something about its chunk only if no other chunk can have been what ended it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_SECONDS = 0.5
"""Some chunks' time. Whoever is inside for longer waits for somebody else: it does not count any
more, so that the work of other jobs does not wait with it.
"""


class _Place:
    """What one of those inside takes up, until it is left for the first time."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room = room
        self._left = False

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._room.release()


class ChunkDoor:
    """The door of one process's event loop, through which chunks come in the order of asking.

    Ask before the chunk's transaction begins: whoever waits here holds nothing that others wait
    for.
    """

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._turn = asyncio.Lock()
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @asynccontextmanager
    async def among_others(self) -> AsyncIterator[None]:
        """Work a chunk beside at most `most` - 1 others, but for those that do not get on with it,
        and beside none that is to be alone.
        """
        await self._room.acquire()
        place = _Place(self._room)
        try:
            async with self._turn:
                self._inside += 1
                self._empty.clear()
            no_more = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, place.leave)
            try:
                yield
            finally:
                no_more.cancel()
                self._inside -= 1
                if not self._inside:
                    self._empty.set()
        finally:
            place.leave()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Work a chunk after those at work have ended, and before any other begins."""
        async with self._turn:
            await self._empty.wait()
            yield
