"""The comparison with the model again, with worker processes doing the work."""

import asyncpg
import pytest

from db.pool import open_pool
from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.model_comparison import (
    LIMIT,
    ModelComparison,
    job_sequences,
    link_lists,
    selecting_jobs,
    start_statuses,
)
from tests.kit.property_examples import check_property
from tests.kit.submitting import submit_job
from tests.kit.waiting import wait_until_async


class WorkerRunner:
    """A runner that submits jobs and waits until worker processes have ended them."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings

    async def __call__(self, account, action, what, fields, params) -> int:
        """Submit the job to the running workers, wait for its end, and return its id."""
        job_id = await submit_job(self.pool, self.settings, account, action, what, fields, params)

        async def ended() -> bool:
            return await self.pool.fetchval(
                "select state not in ('planning', 'running') from jobs where id = $1", job_id
            )

        await wait_until_async(ended, deadline_seconds=30, what=f"job {job_id} ended")
        return job_id


@pytest.mark.parametrize("chunk_size", [1, 3])
async def test_workers_do_as_the_model_says(
    chunk_size: int, settings: Settings, start_group: StartGroup
):
    """Promises 1, 2, 3 and 6 hold on real workers, for any lists, jobs, fields and order."""
    start_group(
        processes=2,
        CHUNK_SIZE=str(chunk_size),
        ROLE_ADDRESS_LIMIT=str(LIMIT),
        JOB_CONCURRENCY="3",
    )
    url = settings.database_url or ""
    async with await open_pool(url, size=3, pgbouncer=settings.pgbouncer) as pool:
        run = WorkerRunner(pool, settings)

        async def check_story(todo) -> None:
            comparison = ModelComparison(pool, run)
            await comparison.begin()
            for step in todo:
                await comparison.apply(*step)
                assert not comparison.model.at_rest_violations()

        async def check_drifted(contacts, present, todo) -> None:
            comparison = ModelComparison(pool, run)
            await comparison.begin(contacts, present)
            for step in todo:
                await comparison.apply(*step)

        await check_property(check_story, job_sequences, max_examples=20)
        await check_property(
            check_drifted, link_lists, start_statuses, selecting_jobs, max_examples=20
        )
