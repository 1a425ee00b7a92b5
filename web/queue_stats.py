"""What waits in the queues, measured once for all who ask at about the same time."""

import asyncio
import time
from typing import NamedTuple

import asyncpg

from actions.registry import all_actions
from db import progress
from db.progress import QueueLoad
from producers.scaling import Capacity, needed_workers, next_suggestion
from runtime.settings import Settings

FRESH_SECONDS = 1.0
"""For how long a measurement is handed out again."""


class Figures(NamedTuple):
    """What waits for workers, and how many there should be."""

    loads: list[QueueLoad]
    due_notices: int
    suggested_workers: int


class QueueLoads:
    """One per web process."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._turn = asyncio.Lock()
        self._measured_at = float("-inf")
        self._figures = Figures([], 0, 1)

    async def now(self) -> Figures:
        """Return the figures of the last second; raises what the driver raises."""
        async with self._turn:
            if time.monotonic() - self._measured_at > FRESH_SECONDS:
                async with self._pool.acquire() as connection:
                    self._figures = await self._measure(connection)
                self._measured_at = time.monotonic()
            return self._figures

    async def _measure(self, connection: asyncpg.Connection) -> Figures:
        urgent = [action.name for action in all_actions().values() if action.urgent]
        loads = await progress.measure(connection, urgent, self._settings.job_lanes)
        due_notices = await progress.due_notices(connection)
        return Figures(loads, due_notices, await self._suggest(connection, loads))

    async def _suggest(self, connection: asyncpg.Connection, loads: list[QueueLoad]) -> int:
        """Suggest as all web processes do: what was suggested last is in Postgres."""
        before, now = await progress.suggestion(connection)
        needed = needed_workers(loads, Capacity.of(self._settings))
        suggestion = next_suggestion(before, needed, now)
        if suggestion != before:
            await progress.keep_suggestion(connection, suggestion, before)
        return min(suggestion.workers, self._settings.max_workers)
