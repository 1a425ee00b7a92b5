"""Imports that end before all their rows became contacts."""

import asyncpg

from actions.registry import action_named
from db import progress
from producers.control import cancel
from runtime.settings import Settings
from tests.comparing import LIMIT
from tests.doors import submit_job
from tests.worlds import fill, make_account, statuses_of
from workers.chunk_runner import ChunkRunner
from workers.planner import plan

GONE = "gone@example.com"


async def test_a_cancelled_import_leaves_no_opt_out_unspread(
    pool: asyncpg.Pool, settings: Settings
):
    """Promise 2: an opted-out address that the file has on many rows looks like a role address;
    when the import is cancelled after one of them, it is none, and reaches who arrived with it.
    """
    account_id = await make_account(pool, "cut-short")
    await fill(pool, account_id, {1_000_000: {1: GONE}}, {GONE: ("manual", False)})
    rows = "".join(f"a{n}@example.com,{GONE}\n" for n in range(5))
    text = f"Email,Email Address 2\n{rows}".encode()
    params = {"permission": True}
    job_id = await submit_job(pool, settings, "cut-short", "import", text, None, params)
    limits = settings.model_copy(update={"shared_address_limit": LIMIT})
    async with pool.acquire() as connection:
        await plan(connection, job_id, chunk_size=1, lanes=1)
        job = await progress.job_to_work(connection, job_id)
        action = action_named("import")
        runner = ChunkRunner(
            job=job,
            action=action,
            params=action.params.model_validate(job.params),
            shared_address_limit=LIMIT,
            worker="test",
        )
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
    holders = await pool.fetchval("select holders from email_addresses where match_key = $1", GONE)
    assert holders == 2
