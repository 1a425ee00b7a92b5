"""What waits in the queues, measured once for all who ask at about the same time."""

import asyncio
import time

import asyncpg

from actions.registry import all_actions
from db import progress
from db.progress import QueueLoad

FRESH_SECONDS = 1.0
"""For how long a measurement is handed out again."""


class QueueLoads:
    """One per web process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._turn = asyncio.Lock()
        self._measured_at = float("-inf")
        self._loads: list[QueueLoad] = []

    async def now(self) -> list[QueueLoad]:
        """The load of each queue; raises what the driver raises."""
        async with self._turn:
            if time.monotonic() - self._measured_at > FRESH_SECONDS:
                urgent = [action.name for action in all_actions().values() if action.urgent]
                async with self._pool.acquire() as connection:
                    self._loads = await progress.measure(connection, urgent)
                self._measured_at = time.monotonic()
            return self._loads
