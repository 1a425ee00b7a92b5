"""Nothing is lost and nothing happens twice: workers killed, Redis wiped, everything stopped."""

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

MANY = 30_000
SOME = 10_000
SMALL = {"CHUNK_SIZE": "50"}
"""Chunks by the hundred, so that what is lost is lost in the middle of a job."""

Twins = Callable[[int], Awaitable[tuple[str, str]]]


class Ended(NamedTuple):
    """What a job has left behind."""

    statuses: dict[str, tuple[str, bool]]
    counts: dict[str, int]
    direct_rows: Counter


@pytest.fixture
def make_twins(pool: asyncpg.Pool) -> Twins:
    """Makes two accounts with the same contacts."""

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


async def done_chunks(pool: asyncpg.Pool, job_id: int) -> int:
    """Count the finished chunks of the job."""
    return await pool.fetchval(
        "select count(*) from job_chunks where job_id = $1 and state = 'done'", job_id
    )


async def ended(pool: asyncpg.Pool, account: str, job_id: int, *, deadline: float) -> Ended:
    """Wait until the job is completed; return what a disturbed run must have in common with this
    one.
    """

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
    return Ended(
        await statuses_of(pool, account_id),
        counts,
        Counter({(r["outcome"], r["reason"], r["cause"]): r["rows"] for r in rows}),
    )


async def disturb(
    pool: asyncpg.Pool,
    settings: Settings,
    accounts: tuple[str, str],
    loss: Callable[[], object],
) -> tuple[Ended, Ended]:
    """The same job over both accounts; in the middle of the second one, the loss."""
    undisturbed, disturbed = accounts
    job_id = await opt_out_everyone(pool, settings, undisturbed)
    expected = await ended(pool, undisturbed, job_id, deadline=90)
    job_id = await opt_out_everyone(pool, settings, disturbed)

    async def under_way() -> bool:
        return await done_chunks(pool, job_id) > 4

    await wait_until_async(under_way, deadline_seconds=30, what="the job is under way")
    await asyncio.to_thread(loss)
    assert await state_of(pool, job_id) == "running"
    actual = await ended(pool, disturbed, job_id, deadline=90)
    return expected, actual


async def test_a_killed_worker_changes_nothing_of_the_result(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """Promise 4: kill -9 of a worker in mid-job ends in the results of an undisturbed run."""
    first, _second = start_group(**SMALL), start_group(**SMALL)
    expected, actual = await disturb(
        pool, settings, await make_twins(MANY), lambda: first.signal_all(signal.SIGKILL)
    )
    assert actual == expected


@pytest.mark.both_ways
async def test_an_only_worker_that_is_killed_and_replaced_changes_nothing(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """Promise 4: the platform's replacement takes over from a worker that was killed alone."""
    group = start_group(**SMALL)

    def replace() -> None:
        group.signal_all(signal.SIGKILL)
        start_group(**SMALL)

    expected, actual = await disturb(pool, settings, await make_twins(SOME), replace)
    assert actual == expected


@pytest.mark.usefixtures("own_redis")
async def test_a_wiped_redis_changes_nothing_of_the_result(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """Promise 4: all messages lost at once cost seconds and nothing else."""
    start_group(processes=2, **SMALL)
    with redis.Redis.from_url(settings.redis_url or "") as client:
        expected, actual = await disturb(pool, settings, await make_twins(MANY), client.flushall)
    assert actual == expected


@pytest.mark.both_ways
async def test_sigterm_to_all_ends_all_with_nothing_half_done(
    pool: asyncpg.Pool,
    settings: Settings,
    make_twins: Twins,
    start_group: StartGroup,
):
    """A platform's stop, sent to every process and twice, leaves whole chunks only, and no
    process; a later fleet goes on to the same end.
    """
    group = start_group(processes=2, **SMALL)

    def stop() -> None:
        group.signal_all(signal.SIGTERM)
        group.signal_all(signal.SIGTERM)
        group.wait_gone(deadline_seconds=30)
        assert sum('"worker.stopped"' in line for line in group.lines()) == 2

    undisturbed, disturbed = await make_twins(SOME)
    job_id = await opt_out_everyone(pool, settings, undisturbed)
    expected = await ended(pool, undisturbed, job_id, deadline=90)
    job_id = await opt_out_everyone(pool, settings, disturbed)

    async def under_way() -> bool:
        return await done_chunks(pool, job_id) > 4

    await wait_until_async(under_way, deadline_seconds=30, what="the job is under way")
    await asyncio.to_thread(stop)
    halves = await pool.fetchval(
        "select count(*) from job_chunks c where c.job_id = $1 and"
        " (select count(*) from results r where r.job_id = c.job_id and r.chunk_no = c.chunk_no)"
        " <> case c.state when 'done' then c.applied + c.unchanged + c.rejected + c.propagated"
        " else 0 end",
        job_id,
    )
    assert halves == 0
    await asyncio.to_thread(start_group, **SMALL)
    actual = await ended(pool, disturbed, job_id, deadline=60)
    assert actual == expected
