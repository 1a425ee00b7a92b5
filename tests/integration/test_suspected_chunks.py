"""A chunk that may have ended its worker is worked alone: what it is blamed for is then its own."""

import asyncio

import asyncpg
import pytest

from runtime.settings import Settings
from tests.conditions import wait_until_async
from tests.doors import submit_job
from tests.worlds import fill, make_account
from workers import slices
from workers.broker import make_client_broker
from workers.context import WorkerContext
from workers.doorbell import Doorbell
from workers.outages import queue_outage
from workers.planner import plan

PEOPLE = {n: {1: f"a{n}@example.com"} for n in (1, 2)}
STATUSES = {f"a{n}@example.com": ("non_marketable", False) for n in PEOPLE}


@pytest.mark.parametrize("lost", [[1, 1], [1, 0], [0, 1]])
async def test_a_suspected_chunk_is_the_only_one_of_its_process(
    pool: asyncpg.Pool, settings: Settings, lost: list[int]
) -> None:
    """Promise 4: two lanes of one process, of which one or both were lost with their workers
    before, each with a chunk that takes its time. While an attempt is counted beforehand no other
    chunk is at work, so that no bystander is counted with it; at the end both are done.
    """
    await fill(pool, await make_account(pool, "suspected"), PEOPLE, STATUSES)
    job_id = await submit_job(
        pool, settings, "suspected", "opt_out", list(PEOPLE), [1], {"kind": "admin"}
    )
    async with pool.acquire() as connection:
        await plan(connection, job_id, chunk_size=1, lanes=2)
    rung = await pool.fetch(
        "update job_lanes set state = 'rung', lost = ($2::int[])[lane + 1] where job_id = $1"
        " returning lane, hop, lost",
        *(job_id, lost),
    )
    assert [row["lost"] for row in rung] == lost
    broker = make_client_broker(settings.redis_url or "", settings.queue_namespace)
    patient = settings.model_copy(update={"slice_seconds": 60.0, "chunks_at_once": 2})
    context = WorkerContext(patient, Doorbell(broker, queue_outage(worker="test")), "test")
    context.use_pool(pool)

    async def at_work(chunks: int) -> bool:
        return await pool.fetchval(
            "select count(*) >= $1 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
            " and query like '%email_addresses%'",
            chunks,
        )

    async with pool.acquire() as console, console.transaction():
        await console.execute("select from email_addresses for update")
        lanes = [
            asyncio.create_task(slices.advance(context, job_id, row["lane"], row["hop"]))
            for row in rung
        ]
        await wait_until_async(lambda: at_work(1), deadline_seconds=10, what="a chunk at work")
        with pytest.raises(AssertionError, match="not within"):
            await wait_until_async(
                lambda: at_work(2), deadline_seconds=1, what="two at work", patience=1
            )
        assert await pool.fetchval("select sum(attempts) <= 1 from job_chunks")
    await asyncio.gather(*lanes)
    assert await pool.fetchval("select count(*) from results where outcome = 'applied'") == 2
    assert await pool.fetchval("select state from jobs where id = $1", job_id) == "completed"
