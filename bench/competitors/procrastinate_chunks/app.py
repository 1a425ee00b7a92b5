"""The procrastinate app: its tasks, and the pool that they have beside the queue's own."""

from typing import Any

from procrastinate import App, PsycopgConnector, RetryStrategy
from psycopg.errors import DeadlockDetected
from psycopg_pool import AsyncConnectionPool

from bench.competitors.jobs import Job
from bench.competitors.place import place
from bench.competitors.procrastinate_chunks import chunk

QUEUE = place().namespace
CONCURRENCY = 2
"""How many chunks one worker process has under way, so that Postgres has one to work on while
another is fetched or noted. With two cores, one, two and three did the same within the noise."""

app = App(connector=PsycopgConnector(conninfo=place().database_url))
pool = AsyncConnectionPool(
    place().database_url,
    min_size=CONCURRENCY,
    max_size=CONCURRENCY,
    open=False,
    kwargs={"autocommit": True},
)
"""The connections that the chunks' transactions are on, opened by the worker."""


@app.task(queue=QUEUE, retry=RetryStrategy(max_attempts=20, retry_exceptions={DeadlockDetected}))
async def work_chunk(job: dict[str, Any], chunk_no: int, contact_ids: list[int]) -> None:
    """A chunk; after a deadlock it was rolled back, and is done again."""
    async with pool.connection() as connection:
        await chunk.work(connection, Job(**job), chunk_no, contact_ids)


@app.task(queue=QUEUE)
async def answer() -> None:
    """Nothing: that it is done tells that a worker answers."""
