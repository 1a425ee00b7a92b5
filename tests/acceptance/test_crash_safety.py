"""Nothing is lost and nothing happens twice if workers are killed, Redis is emptied or all stop."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import asyncpg
import pytest
import redis

from producers.submit import submit
from runtime.settings import Settings
from schemas.requests import JobRequest, Selection
from tests.acceptance.conftest import StartGroup
from tests.kit.factories import fill_large_account, make_account, statuses_of
from tests.kit.waiting import wait_until_async

LARGE_ACCOUNT = 12_000
MEDIUM_ACCOUNT = 4_000
SMALL_CHUNKS = {"CHUNK_SIZE": "20"}
"""Hundreds of chunks, so that a loss happens in the middle of a job."""

Twins = Callable[[int], Awaitable[tuple[str, str]]]


class JobEffects(NamedTuple):
    """The effects of a finished job."""

    statuses: dict[str, tuple[str, bool]]
    counts: dict[str, int]
    direct_rows: Counter


@pytest.fixture
def make_twins(pool: asyncpg.Pool) -> Twins:
    """Return a function that creates two accounts with the same contacts."""

    async def make(contacts: int) -> tuple[str, str]:
        for name in ("undisturbed", "disturbed"):
            await fill_large_account(pool, await make_account(pool, name), contacts)
        return "undisturbed", "disturbed"

    return make


async def opt_out_everyone(pool: asyncpg.Pool, settings: Settings, account: str) -> int:
    """Submit an opt-out of all the account's contacts in email1, and return its id."""
    request = JobRequest(
        account=account,
        action="opt_out",
        selection=Selection(all=True),
        fields=("email1",),
        requested_by="test",
    )
    return (await submit(pool, settings, request)).job_id


async def state_of(pool: asyncpg.Pool, job_id: int) -> str:
    """Return the job's state."""
    return await pool.fetchval("select state from jobs where id = $1", job_id)


async def count_done_chunks(pool: asyncpg.Pool, job_id: int) -> int:
    """Count the finished chunks of the job."""
    return await pool.fetchval(
        "select count(*) from job_chunks where job_id = $1 and state = 'done'", job_id
    )


async def wait_for_end(
    pool: asyncpg.Pool, account: str, job_id: int, *, deadline: float
) -> JobEffects:
    """Wait until the job is completed; return what a disturbed and an undisturbed run share."""

    async def over() -> bool:
        return await state_of(pool, job_id) == "completed"

    await wait_until_async(over, deadline_seconds=deadline, what=f"job {job_id} completed")
    account_id = await pool.fetchval("select id from accounts where name = $1", account)
    counts = dict(
        await pool.fetchrow(
            "select selected, applied, unchanged, rejected, empty, propagated"
            " from jobs where id = $1",
            job_id,
        )
    )
    rows = await pool.fetch(
        "select outcome, reason, cause, count(*) as rows from results"
        " where job_id = $1 group by 1, 2, 3",
        job_id,
    )
    assert counts["applied"] + counts["unchanged"] + counts["rejected"] == sum(
        row["rows"] for row in rows if row["cause"] == "direct"
    )
    return JobEffects(
        await statuses_of(pool, account_id),
        counts,
        Counter({(r["outcome"], r["reason"], r["cause"]): r["rows"] for r in rows}),
    )


async def run_with_loss(
    pool: asyncpg.Pool,
    settings: Settings,
    accounts: tuple[str, str],
    loss: Callable[[], object],
) -> tuple[JobEffects, JobEffects]:
    """Run the same job in both accounts, with the loss in the middle of the second run."""
    undisturbed, disturbed = accounts
    job_id = await opt_out_everyone(pool, settings, undisturbed)
    expected = await wait_for_end(pool, undisturbed, job_id, deadline=90)
    job_id = await opt_out_everyone(pool, settings, disturbed)

    async def under_way() -> bool:
        return await count_done_chunks(pool, job_id) > 4

    await wait_until_async(under_way, deadline_seconds=30, what="the job is under way")
    await asyncio.to_thread(loss)
    assert await state_of(pool, job_id) == "running"
    actual = await wait_for_end(pool, disturbed, job_id, deadline=90)
    return expected, actual


async def test_a_killed_worker_changes_nothing_of_the_result(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """Promise 4: after kill -9 of a worker in mid-job, the results equal those of an undisturbed
    run.
    """
    first, _second = start_group(**SMALL_CHUNKS), start_group(**SMALL_CHUNKS)
    expected, actual = await run_with_loss(
        pool, settings, await make_twins(LARGE_ACCOUNT), lambda: first.signal_all(signal.SIGKILL)
    )
    assert actual == expected


@pytest.mark.both_ways
async def test_replacing_the_only_worker_changes_nothing_of_the_result(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """Promise 4: the only worker is killed, and the one that replaces it finishes the job."""
    group = start_group(**SMALL_CHUNKS)

    def replace() -> None:
        group.signal_all(signal.SIGKILL)
        start_group(**SMALL_CHUNKS)

    expected, actual = await run_with_loss(
        pool, settings, await make_twins(MEDIUM_ACCOUNT), replace
    )
    assert actual == expected


@pytest.mark.usefixtures("own_redis")
async def test_a_wiped_redis_changes_nothing_of_the_result(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """Promise 4: losing all messages costs a few seconds, and changes no result."""
    start_group(processes=2, **SMALL_CHUNKS)
    with redis.Redis.from_url(settings.redis_url or "") as client:
        expected, actual = await run_with_loss(
            pool, settings, await make_twins(LARGE_ACCOUNT), client.flushall
        )
    assert actual == expected


@pytest.mark.both_ways
async def test_sigterm_leaves_no_process_and_no_partial_chunk(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """SIGTERM, sent twice to every process, leaves only whole chunks and no process. A later fleet
    finishes the job with the same results.
    """
    group = start_group(processes=2, **SMALL_CHUNKS)

    def stop() -> None:
        group.signal_all(signal.SIGTERM)
        group.signal_all(signal.SIGTERM)
        group.wait_gone(deadline_seconds=30)
        assert sum('"worker.stopped"' in line for line in group.lines()) == 2

    undisturbed, disturbed = await make_twins(MEDIUM_ACCOUNT)
    job_id = await opt_out_everyone(pool, settings, undisturbed)
    expected = await wait_for_end(pool, undisturbed, job_id, deadline=90)
    job_id = await opt_out_everyone(pool, settings, disturbed)

    async def under_way() -> bool:
        return await count_done_chunks(pool, job_id) > 4

    await wait_until_async(under_way, deadline_seconds=30, what="the job is under way")
    await asyncio.to_thread(stop)
    partial_chunks = await pool.fetchval(
        "select count(*) from job_chunks c where c.job_id = $1 and"
        " (select count(*) from results r where r.job_id = c.job_id and r.chunk_no = c.chunk_no)"
        " <> case c.state when 'done' then c.applied + c.unchanged + c.rejected + c.propagated"
        " else 0 end",
        job_id,
    )
    assert partial_chunks == 0
    await asyncio.to_thread(start_group, **SMALL_CHUNKS)
    actual = await wait_for_end(pool, disturbed, job_id, deadline=60)
    assert actual == expected
