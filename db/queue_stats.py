"""What waits for workers in each queue, over all accounts."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from db.queries import load

_sql = load("queue_stats")

CHUNK_SECONDS = 0.1
"""The assumed duration of a chunk if none of its queue was done in the last two minutes."""

PLAN_SECONDS = 0.1
"""The assumed duration of planning a job."""


class QueueLoad(NamedTuple):
    """What waits for a worker in one queue.

    A job that waits for its plan, or only for its end, counts as one chunk. `work_seconds` is how
    long the work would take one chunk after another, and `lanes` how many workers it can use.
    """

    queue: str
    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float
    lanes: int


async def read_queue_loads(
    connection: asyncpg.Connection, urgent_actions: Sequence[str], job_concurrency: int
) -> list[QueueLoad]:
    """Return what waits in each queue if a job has at most `job_concurrency` lanes."""
    rows = _sql.read_queue_loads(
        connection,
        urgent_actions=urgent_actions,
        job_concurrency=job_concurrency,
        chunk_seconds=CHUNK_SECONDS,
        plan_seconds=PLAN_SECONDS,
    )
    return [QueueLoad(*row) async for row in rows]


async def count_due_deliveries(connection: asyncpg.Connection) -> int:
    """Return how many deliveries of webhooks are due."""
    count: int = await _sql.count_due_deliveries(connection)
    return count
