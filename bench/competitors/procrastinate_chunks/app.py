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
"""How many chunks one worker process has under way, so that Postgres has one to work on while
another is fetched or noted. With two cores, one, two and three did the same within the noise."""

app = App(connector=PsycopgConnector(conninfo=DATABASE_URL))
pool = AsyncConnectionPool(
    DATABASE_URL,
    min_size=CONCURRENCY,
    max_size=CONCURRENCY,
    open=False,
    kwargs={"autocommit": True},
)
"""The connections that the chunks' transactions are on, opened by the worker."""


@app.task(queue=QUEUE, retry=RetryStrategy(max_attempts=20, retry_exceptions={DeadlockDetected}))
async def work_chunk(job: dict[str, Any], chunk_no: int, contact_ids: list[int]) -> None:
    """Do a chunk. After a deadlock it was rolled back, and is done again."""
    async with pool.connection() as connection:
        await chunk.work(connection, Job(**job), chunk_no, contact_ids)


@app.task(queue=QUEUE)
async def answer() -> None:
    """Do nothing. That it is done shows that a worker answers."""
