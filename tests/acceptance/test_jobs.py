"""Jobs on real workers: stopped and resumed, forgotten by the queue, and with contacts that
cannot be done.
"""

import asyncio

import asyncpg
import pytest

from producers.control import cancel, pause, resume
from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.acceptance.conftest import StartGroup
from tests.conditions import wait_until_async
from tests.doors import EVIDENCE, submit_job
from tests.worlds import fill, fill_many, make_account, statuses_of

pytestmark = pytest.mark.pgbouncer

HASTY = {"SWEEP_SECONDS": "0.2", "SILENCE_SECONDS": "0.5", "RETRY_SECONDS": "0.02"}


async def submit_all(
    pool: asyncpg.Pool, settings: Settings, account: str, action: str, *fields: str
) -> int:
    request = JobRequest(
        account=account,
        action=action,
        selection=Selection(all=True),
        fields=fields or ("email1", "email2"),
        evidence=EVIDENCE if action == "opt_in" else None,
        requested_by="test",
    )
    return (await submit(pool, settings, request)).job_id


async def wait_for(pool: asyncpg.Pool, job_id: int, state: str, *, deadline: float = 60) -> None:
    async def there() -> bool:
        return await pool.fetchval("select state = $2 from jobs where id = $1", job_id, state)

    await wait_until_async(there, deadline_seconds=deadline, what=f"job {job_id} is {state}")


async def rows_of(pool: asyncpg.Pool, job_id: int) -> int:
    return await pool.fetchval("select count(*) from results where job_id = $1", job_id)


async def under_way(pool: asyncpg.Pool, job_id: int) -> None:
    async def some() -> bool:
        return await rows_of(pool, job_id) > 0

    await wait_until_async(some, deadline_seconds=30, what="the job is under way")


async def test_answered_means_done(pool: asyncpg.Pool, settings: Settings, start_group: StartGroup):
    """Promise 5: after pause and after cancel have answered not one more address changes, and
    what was done stays and adds up with what was not reached.
    """
    await fill_many(pool, await make_account(pool, "stopped"), 20_000)
    start_group(processes=2, CHUNK_SIZE="100")
    job_id = await submit_all(pool, settings, "stopped", "opt_out")
    for stop in (pause, cancel):
        await under_way(pool, job_id)
        await stop(pool, settings, None, job_id)
        rows = await rows_of(pool, job_id)
        changed = await pool.fetchval("select max(status_changed_at) from email_addresses")
        for _ in range(20):
            # Rings that are still in the queue find a job that does not run.
            await pool.execute("select pg_sleep(0.05)")
            assert await rows_of(pool, job_id) == rows
        latest = await pool.fetchval("select max(status_changed_at) from email_addresses")
        assert latest == changed
        if stop is pause:
            await resume(pool, settings, None, job_id)

            async def goes_on(rows: int = rows) -> bool:
                return await rows_of(pool, job_id) > rows

            await wait_until_async(goes_on, deadline_seconds=30, what="the job goes on")
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert job["state"] == "cancelled"
    assert 0 < job["applied"] < job["selected"] == 40_000
    left = await pool.fetchval(
        "select sum(pairs) from job_chunks where job_id = $1 and state = 'pending'", job_id
    )
    done = job["applied"] + job["unchanged"] + job["rejected"] + job["empty"]
    assert done + left == job["selected"]


async def test_a_job_that_nobody_was_rung_for_is_found(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """A job whose ring was lost is planned, worked and completed all the same."""
    await fill_many(pool, await make_account(pool, "lost"), 100)
    elsewhere = settings.model_copy(update={"queue_namespace": "nobody-listens"})
    job_id = await submit_all(pool, elsewhere, "lost", "opt_out")
    start_group(**HASTY)
    await wait_for(pool, job_id, "completed")


async def test_each_of_forty_jobs_at_once_is_done_once(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """Many small jobs at once over the same contacts end without deadlock, and add up."""
    await fill_many(pool, await make_account(pool, "busy"), 60)
    start_group(processes=2, CHUNK_SIZE="7")
    ids = await asyncio.gather(
        *(submit_all(pool, settings, "busy", ("opt_in", "opt_out")[n % 2]) for n in range(40))
    )
    for job_id in ids:
        await wait_for(pool, job_id, "completed")
    assert await pool.fetchval("select count(*) from results where cause = 'direct'") == 40 * 120
    marketable = await pool.fetchval(
        "select count(*) from email_addresses a where a.status in"
        " ('single_opt_in', 'double_opt_in', 'confirmed', 'unengaged_marketable') and exists"
        " (select from contact_emails e where e.address_id = a.id)"
    )
    assert marketable == 0


@pytest.mark.parametrize("action", ["opt_out", "import"])
async def test_a_contact_that_cannot_be_done_is_refused_and_the_rest_is_done(
    action: str, pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """A write that fails in Postgres ends as an internal error with its text, for that contact
    alone; the chunk around it is split until it stands apart.
    """
    account_id = await make_account(pool, "poisoned")
    await pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'this one never works'; end $$"
    )
    await pool.execute(
        "create trigger poison before insert or update on email_addresses for each row"
        " when (new.match_key = 'a5@example.com' and new.status <> 'non_marketable')"
        " execute function refuse()"
    )
    start_group(CHUNK_SIZE="8", **HASTY)
    if action == "opt_out":
        await fill(
            pool,
            account_id,
            {n: {1: f"a{n}@example.com"} for n in range(10, 20)} | {5: {1: "a5@example.com"}},
            {f"a{n}@example.com": ("non_marketable", False) for n in (5, *range(10, 20))},
        )
        job_id = await submit_all(pool, settings, "poisoned", "opt_out", "email1")
        params = None
    else:
        rows = "".join(f"a{n}@example.com\n" for n in (*range(10, 20), 5))
        params = {"permission": True}
        job_id = await submit_job(
            pool, settings, "poisoned", "import", f"Email\n{rows}".encode(), None, params
        )
    await wait_for(pool, job_id, "completed")
    job = await pool.fetchrow("select * from jobs where id = $1", job_id)
    assert (job["applied"], job["rejected"]) == (10, 1)
    refused = await pool.fetch("select * from rejections where job_id = $1", job_id)
    assert [row["reason"] for row in refused] == ["internal_error"]
    assert "this one never works" in refused[0]["error"]
    statuses = await statuses_of(pool, account_id)
    if action == "import":
        assert "a5@example.com" not in statuses
        line = await pool.fetchrow("select line, reason from import_rejections")
        assert tuple(line) == (12, "internal_error")
    else:
        assert statuses["a5@example.com"] == ("non_marketable", False)
        attempts = await pool.fetchval(
            "select attempts from job_chunks where job_id = $1 and error is not null"
            " and state = 'done'",
            job_id,
        )
        assert attempts == 3
