"""The load of the queues, measured at most once a second for all who ask."""

import asyncio
import time
from typing import NamedTuple

import asyncpg

from actions.registry import all_actions
from db import queue_stats, sweeps
from db.queue_stats import QueueLoad
from producers.scaling import Capacity, count_needed_dynos, next_suggestion
from runtime.settings import Settings

CACHE_SECONDS = 1.0
"""How long a measurement is valid."""


class QueueStats(NamedTuple):
    """What waits for workers, and how many worker dynos there should be."""

    loads: list[QueueLoad]
    due_webhooks: int
    suggested_workers: int


class QueueStatsCache:
    """The last measurement of a web process."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._lock = asyncio.Lock()
        self._measured_at = float("-inf")
        self._stats = QueueStats([], 0, 1)

    async def read(self) -> QueueStats:
        """Return figures that are at most a second old; raise what the driver raises."""
        async with self._lock:
            if time.monotonic() - self._measured_at > CACHE_SECONDS:
                async with self._pool.acquire() as connection:
                    self._stats = await self._measure(connection)
                self._measured_at = time.monotonic()
            return self._stats

    async def _measure(self, connection: asyncpg.Connection) -> QueueStats:
        urgent = [action.name for action in all_actions().values() if action.urgent]
        loads = await queue_stats.read_queue_loads(
            connection, urgent, self._settings.job_concurrency
        )
        due_webhooks = await queue_stats.count_due_deliveries(connection)
        return QueueStats(loads, due_webhooks, await self._suggest(connection, loads))

    async def _suggest(self, connection: asyncpg.Connection, loads: list[QueueLoad]) -> int:
        """Suggest a number of dynos; the last suggestion is in Postgres, for all processes."""
        before, now = await sweeps.get_suggestion(connection)
        needed = count_needed_dynos(loads, Capacity.from_settings(self._settings))
        suggestion = next_suggestion(before, needed, now)
        if suggestion != before:
            await sweeps.store_suggestion(connection, suggestion, before)
        return min(suggestion.workers, self._settings.max_workers)
