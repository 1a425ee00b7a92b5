"""Lanes are enqueued a few at a time, whatever plan Postgres chooses."""

import asyncpg
import pytest

from db import lanes
from runtime.settings import Settings
from tests.kit.factories import key_of
from tests.kit.submitting import submit_planned_opt_out

LANES = 8

PLANS = {
    "nested loops": ("enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_sort"),
    "nested loops over nothing kept": (
        "enable_hashjoin",
        "enable_mergejoin",
        "enable_hashagg",
        "enable_sort",
        "enable_material",
    ),
    "hash joins": ("enable_nestloop", "enable_mergejoin"),
    "merge joins": ("enable_nestloop", "enable_hashjoin"),
    "sequential scans": ("enable_indexscan", "enable_bitmapscan", "enable_hashjoin"),
}


@pytest.fixture
async def job_id(pool: asyncpg.Pool, settings: Settings) -> int:
    """Submit a job of many chunks with all lanes idle."""
    job_id = await submit_planned_opt_out(pool, settings, "lanes", contacts=40, lanes=LANES)
    await pool.execute("analyze job_lanes, job_chunks")
    return job_id


@pytest.mark.parametrize("without", PLANS.values(), ids=PLANS)
async def test_no_more_lanes_are_queued_than_the_limit(
    pool: asyncpg.Pool, job_id: int, without: tuple[str, ...]
) -> None:
    """With any plan, each call queues two idle lanes, until none is idle. A process that queued all
    would work on them one after another.
    """
    async with pool.acquire() as connection, connection.transaction():
        for setting in without:
            await connection.execute(f"set local {setting} = off")
        queued = [
            {
                lane.lane
                for lane in await lanes.queue_idle_lanes(
                    connection, await key_of(pool, job_id), min_lanes=0, limit=2
                )
            }
            for _ in range(LANES // 2 + 1)
        ]
    assert [len(lanes) for lanes in queued] == [2] * (LANES // 2) + [0]
    assert set().union(*queued) == set(range(LANES))


@pytest.mark.parametrize("without", PLANS.values(), ids=PLANS)
async def test_no_more_stalled_lanes_are_requeued_than_the_limit(
    pool: asyncpg.Pool, job_id: int, without: tuple[str, ...]
) -> None:
    """With any plan, the sweeper requeues three stalled lanes and no fourth."""
    await pool.execute(
        "update job_lanes set state = 'queued', touched_at = now() - interval '1 hour'"
        " where job_id = $1",
        job_id,
    )
    async with pool.acquire() as connection, connection.transaction():
        for setting in without:
            await connection.execute(f"set local {setting} = off")
        requeued = await lanes.requeue_stalled_lanes(
            connection, await key_of(pool, job_id), limit=3, stalled_after_seconds=0.0
        )
    assert len(requeued) == 3


@pytest.mark.parametrize("state", ["running", "paused", "cancelled"])
@pytest.mark.parametrize("free", range(5))
async def test_lanes_are_queued_for_runnable_chunks(
    pool: asyncpg.Pool, job_id: int, state: str, free: int
) -> None:
    """One lane is queued for each free chunk but the caller's own, two at most. Chunks that wait
    for a retry or are locked are not free. A job that is not running gets none.
    """
    await pool.execute(
        "update job_chunks set runnable_at = now() + interval '1 hour' where chunk_no > $1 + 2",
        free,
    )
    await pool.execute(
        "update jobs set state = $1::job_state,"
        " finished_at = case $1::text when 'cancelled' then now() end where id = $2",
        *(state, job_id),
    )
    # Two lanes hold a chunk each, and a third one is the caller.
    await pool.execute("update job_lanes set state = 'held' where lane <= 2")
    async with pool.acquire() as worker, worker.transaction(), pool.acquire() as connection:
        await worker.execute("select from job_chunks where chunk_no <= 2 for update")
        queued = await lanes.queue_idle_lanes(
            connection, await key_of(pool, job_id), min_lanes=0, limit=2
        )
    assert len(queued) == (min(2, max(0, free - 1)) if state == "running" else 0)
