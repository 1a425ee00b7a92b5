"""Jobs on real workers: stopped and resumed, without a message, and many at the same time."""

import asyncio

import asyncpg
import pytest

from producers.control import cancel, pause, resume
from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.factories import fill_large_account, make_account
from tests.kit.job_requests import FAST_RECOVERY, submit_account_job, wait_for_state
from tests.kit.waiting import wait_until_async

pytestmark = pytest.mark.both_ways


async def count_results(pool: asyncpg.Pool, job_id: int) -> int:
    """Count the results of the job."""
    return await pool.fetchval("select count(*) from results where job_id = $1", job_id)


async def under_way(pool: asyncpg.Pool, job_id: int) -> None:
    """Wait until the job has written a result."""

    async def some() -> bool:
        return await count_results(pool, job_id) > 0

    await wait_until_async(some, deadline_seconds=30, what="the job is under way")


async def test_answered_means_done(pool: asyncpg.Pool, settings: Settings, start_group: StartGroup):
    """Promise 5: no address changes once pause or cancel has answered. Results are kept, and
    together with the pending pairs they add up to the selection.
    """
    await fill_large_account(pool, await make_account(pool, "stopped"), 20_000)
    start_group(processes=2, CHUNK_SIZE="100")
    job_id = await submit_account_job(pool, settings, "stopped", "opt_out")
    for stop in (pause, cancel):
        await under_way(pool, job_id)
        await stop(pool, settings, None, job_id)
        rows = await count_results(pool, job_id)
        changed = await pool.fetchval("select max(status_changed_at) from email_addresses")
        for _ in range(20):
            # Messages that are still in the queue find a job that is not running.
            await pool.execute("select pg_sleep(0.05)")
            assert await count_results(pool, job_id) == rows
        latest = await pool.fetchval("select max(status_changed_at) from email_addresses")
        assert latest == changed
        if stop is pause:
            await resume(pool, settings, None, job_id)

            async def goes_on(rows: int = rows) -> bool:
                return await count_results(pool, job_id) > rows

            await wait_until_async(goes_on, deadline_seconds=30, what="the job goes on")
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert job["state"] == "cancelled"
    assert 0 < job["applied"] < job["selected"] == 40_000
    left = await pool.fetchval(
        "select sum(pairs) from job_chunks where job_id = $1 and state = 'pending'", job_id
    )
    done = job["applied"] + job["unchanged"] + job["rejected"] + job["empty"]
    assert done + left == job["selected"]


async def test_a_job_without_a_message_is_found(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """A job whose message was lost is planned and completed all the same."""
    await fill_large_account(pool, await make_account(pool, "lost"), 100)
    elsewhere = settings.model_copy(update={"queue_namespace": "nobody-listens"})
    job_id = await submit_account_job(pool, elsewhere, "lost", "opt_out")
    start_group(**FAST_RECOVERY)
    await wait_for_state(pool, job_id, "completed")


async def test_each_of_forty_concurrent_jobs_is_done_once(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """Many small concurrent jobs over the same contacts end without a deadlock, and their counts
    add up.
    """
    await fill_large_account(pool, await make_account(pool, "busy"), 60)
    start_group(processes=2, CHUNK_SIZE="7")
    ids = await asyncio.gather(
        *(
            submit_account_job(pool, settings, "busy", ("opt_in", "opt_out")[n % 2])
            for n in range(40)
        )
    )
    for job_id in ids:
        await wait_for_state(pool, job_id, "completed")
    assert await pool.fetchval("select count(*) from results where cause = 'direct'") == 40 * 120
    marketable = await pool.fetchval(
        "select count(*) from email_addresses a where a.status in"
        " ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable') and exists"
        " (select from contact_emails e where e.address_id = a.id)"
    )
    assert marketable == 0
