"""Imports that end before all their rows have become contacts."""

import asyncio

import asyncpg
import pytest

from db import job_progress
from db.chunks import lock_job_shared
from engine.chunk_runner import ChunkRunner
from engine.finalize import complete_job, fail_job
from engine.planner import plan_job
from producers.control import cancel
from runtime.settings import Settings
from tests.kit.factories import fill, key_of, make_account, statuses_of
from tests.kit.model_comparison import LIMIT
from tests.kit.sample_account import AccountDriver
from tests.kit.submitting import submit_job
from tests.kit.waiting import wait_until_lock_contended

GONE = "gone@example.com"
ROLE = "info@example.com"


async def test_a_cancelled_import_propagates_its_opt_outs(pool: asyncpg.Pool, settings: Settings):
    """Promise 2: an opted-out address on many rows of a file looks like a role address. If the
    import is cancelled after one row, it is no role address, and its opt-out propagates.
    """
    account_id = await make_account(pool, "cut-short")
    await fill(pool, account_id, {1_000_000: {1: GONE}}, {GONE: ("manual", False)})
    rows = "".join(f"a{n}@example.com,{GONE}\n" for n in range(5))
    text = f"Email,Email Address 2\n{rows}".encode()
    params = {"permission": True}
    job_id = await submit_job(pool, settings, "cut-short", "import", text, None, params)
    limits = settings.model_copy(update={"role_address_limit": LIMIT})
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job_id), chunk_size=1, max_lanes=1)
        job = await job_progress.get_job_to_work(connection, await key_of(pool, job_id))
        runner = ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")
        await runner.run_next(connection)
    assert (await statuses_of(pool, account_id))["a0@example.com"] == ("single_opt_in", False)
    await cancel(pool, limits, None, job_id)
    assert await statuses_of(pool, account_id) == {
        GONE: ("manual", False),
        "a0@example.com": ("manual", True),
    }
    row = await pool.fetchrow("select applied, propagated from jobs where id = $1", job_id)
    assert tuple(row) == (1, 1)
    last = await pool.fetchrow("select * from results order by decided_at desc limit 1")
    assert (last["from_status"], last["to_status"]) == ("single_opt_in", "manual")
    contact_count = await pool.fetchval(
        "select contact_count from email_addresses where match_key = $1", GONE
    )
    assert contact_count == 1  # The row was recognized as the contact that held the address before.


@pytest.mark.parametrize("is_failure", [False, True])
async def test_an_import_paused_before_its_end_is_not_finalized(
    pool: asyncpg.Pool, settings: Settings, is_failure: bool
):
    """Promise 5: an import that is ending waits for the job's lock. If the job is paused meanwhile,
    neither its completion nor its failure changes an address.
    """
    account_id = await make_account(pool, "paused-late")
    await fill(pool, account_id, {1_000_000: {1: GONE}}, {GONE: ("manual", False)})
    driver = AccountDriver(pool, settings, "paused-late")
    rows = [[f"a{n}@example.com", GONE] for n in range(5)]
    job_id = await driver.submit("import", rows, permission=True)
    async with pool.acquire() as holding, pool.acquire() as ending:
        await plan_job(holding, await key_of(pool, job_id), chunk_size=1, max_lanes=1)
        job = await job_progress.get_job_to_work(holding, await key_of(pool, job_id))
        await driver.work(job_id, chunks=1)
        # Only finalizing is left to do: four rows became no contacts.
        await pool.execute(
            "update job_chunks set state = 'split' where job_id = $1 and state = 'pending'", job_id
        )
        before = await statuses_of(pool, account_id)
        assert before["a0@example.com"] == ("single_opt_in", False)
        async with holding.transaction():
            await lock_job_shared(holding, job_id)
            end = asyncio.create_task(
                fail_job(ending, job, "it broke", role_address_limit=LIMIT)
                if is_failure
                else complete_job(ending, job, role_address_limit=LIMIT)
            )
            await wait_until_lock_contended(pool, what="the end waits for the lock")
            await pool.execute("update jobs set state = 'paused' where id = $1", job_id)
        assert not await end
    assert await statuses_of(pool, account_id) == before
    assert await pool.fetchval("select state from jobs where id = $1", job_id) == "paused"


async def test_an_ending_import_counts_links_of_another_import(
    pool: asyncpg.Pool, settings: Settings
):
    """Two imports add a role address. One ends while a chunk of the other is about to commit a
    link, and the stored count is right.
    """
    account_id = await make_account(pool, "at-once")
    driver = AccountDriver(pool, settings, "at-once")
    await driver.run("import", [[f"a{n}@example.com", ROLE] for n in range(3)], permission=False)
    ending = await driver.submit(
        "import", [[f"b{n}@example.com", ROLE] for n in range(3)], permission=False
    )
    await driver.work(ending, chunks=9)
    other = await driver.submit("import", [["c@example.com", ROLE]], permission=False)
    await driver.work(other, chunks=0)
    async with pool.acquire() as linking, pool.acquire() as finalizing:
        job = await job_progress.get_job_to_work(linking, await key_of(pool, other))
        last = await job_progress.get_job_to_work(linking, await key_of(pool, ending))
        runner = ChunkRunner.for_job(job, role_address_limit=LIMIT, worker="test")
        async with linking.transaction():
            assert await runner.run_next(linking)
            end = asyncio.create_task(complete_job(finalizing, last, role_address_limit=LIMIT))
            await wait_until_lock_contended(pool, what="the end of the import waits for the chunk")
        assert await end is not None
    await driver.work(other)
    row = await pool.fetchrow(
        "select contact_count, (select count(*) from contact_emails e where e.address_id = a.id)"
        " from email_addresses a where account_id = $1 and match_key = $2",
        account_id,
        ROLE,
    )
    assert tuple(row) == (7, 7)
