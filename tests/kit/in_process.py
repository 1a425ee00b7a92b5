"""Jobs submitted through the public functions and run in the tests' own process on Postgres."""

import asyncio

import asyncpg

from db import job_progress, jobs
from engine.chunk_runner import ChunkRunner
from engine.finalize import complete_job
from engine.planner import plan_job
from runtime.settings import Settings
from schemas.job_key import JobKey
from tests.kit.model_comparison import LIMIT
from tests.kit.submitting import submit_job


class InProcessRunner:
    """Runs each submitted job in this process with several chunks in parallel; returns the job's
    id.
    """

    def __init__(
        self, pool: asyncpg.Pool, settings: Settings, *, chunk_size: int, parallel: int
    ) -> None:
        self.pool = pool
        self.settings = settings
        self.chunk_size = chunk_size
        self.parallel = parallel

    async def __call__(self, account, action, what, fields, params) -> int:
        """Submit the job, run it in this process until it ends, and return its id."""
        job_id = await submit_job(self.pool, self.settings, account, action, what, fields, params)
        await self.work(job_id)
        return job_id

    async def work(self, job_id: int) -> None:
        """Plan the job and run it to its end."""
        async with self.pool.acquire() as connection:
            account_id = await jobs.account_of_job(connection, job_id)
            assert account_id is not None
            await plan_job(
                connection, JobKey(account_id, job_id), chunk_size=self.chunk_size, max_lanes=1
            )
            job = await job_progress.get_job_to_work(connection, JobKey(account_id, job_id))
        runner = ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")
        await asyncio.gather(*(self._lane(runner) for _ in range(self.parallel)))
        async with self.pool.acquire() as connection:
            ended = await complete_job(connection, job, role_address_limit=LIMIT)
            assert ended is not None

    async def _lane(self, runner: ChunkRunner) -> None:
        async with self.pool.acquire() as connection:
            while await runner.run_next(connection):
                pass
