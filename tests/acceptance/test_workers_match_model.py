"""The same comparison with the model, and everything real: worker processes do the work."""

import asyncpg
import pytest

from db.pool import open_pool
from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.model_comparison import LIMIT, Story, drifted, selecting_jobs, stories, worlds
from tests.kit.property_examples import for_all
from tests.kit.submitting import submit_job
from tests.kit.waiting import wait_until_async


class OnWorkers:
    """Submits jobs as anyone does, and waits for the workers to end them."""

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        self.pool = pool
        self.settings = settings

    async def __call__(self, account, action, what, fields, params) -> int:
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
    """Promises 1, 2, 3 and 6 on real workers, whatever the lists, jobs, fields and order."""
    start_group(
        processes=2,
        CHUNK_SIZE=str(chunk_size),
        SHARED_ADDRESS_LIMIT=str(LIMIT),
        JOB_LANES="3",
    )
    url = settings.database_url or ""
    async with await open_pool(url, size=3, pgbouncer=settings.pgbouncer) as pool:
        run = OnWorkers(pool, settings)

        async def check_story(todo) -> None:
            story = Story(pool, run)
            await story.begin()
            for step in todo:
                await story.tell(*step)
                assert not story.model.at_rest_violations()

        async def check_drifted(world, present, todo) -> None:
            story = Story(pool, run)
            await story.begin(world, present)
            for step in todo:
                await story.tell(*step)

        await for_all(check_story, stories, max_examples=20)
        await for_all(check_drifted, worlds, drifted, selecting_jobs, max_examples=20)
