"""The procrastinate app: its tasks, and the pool for their transactions."""

from typing import Any

from procrastinate import App, PsycopgConnector, RetryStrategy
from psycopg.errors import DeadlockDetected
from psycopg_pool import AsyncConnectionPool

from bench.competitors.environment import DATABASE_URL, NAMESPACE
from bench.competitors.jobs import Job
from bench.competitors.procrastinate_chunks import chunk

QUEUE = NAMESPACE
CONCURRENCY = 2
"""The number of chunks that one worker process handles concurrently, so that Postgres is busy while
a job is fetched or recorded. With two cores, one, two and three made no difference beyond the
noise.
"""

app = App(connector=PsycopgConnector(conninfo=DATABASE_URL))
pool = AsyncConnectionPool(
    DATABASE_URL,
    min_size=CONCURRENCY,
    max_size=CONCURRENCY,
    open=False,
    kwargs={"autocommit": True},
)
"""The connections of the chunks' transactions, opened by the worker."""


@app.task(queue=QUEUE, retry=RetryStrategy(max_attempts=20, retry_exceptions={DeadlockDetected}))
async def work_chunk(job: dict[str, Any], chunk_no: int, contact_ids: list[int]) -> None:
    """Do a chunk. After a deadlock it was rolled back and is repeated."""
    async with pool.connection() as connection:
        await chunk.work(connection, Job(**job), chunk_no, contact_ids)


@app.task(queue=QUEUE)
async def answer() -> None:
    """Do nothing. Its completion shows that a worker answers."""
