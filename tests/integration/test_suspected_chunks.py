"""A chunk that may have ended its worker is worked alone: what it is blamed for is then its own."""

import asyncio

import asyncpg
import pytest

from db import chunks, progress
from runtime.settings import Settings
from tests.conditions import wait_until_async
from tests.doors import planned_opt_out, submit_job
from tests.worked_world import REFUSED_BY_POSTGRES, Works
from tests.worlds import fill, make_account
from workers import slices
from workers.broker import make_client_broker
from workers.context import WorkerContext
from workers.doorbell import Doorbell
from workers.outages import queue_outage
from workers.planner import plan
from workers.setbacks import ATTEMPTS

PEOPLE = {n: {1: f"a{n}@example.com"} for n in (1, 2)}
STATUSES = {f"a{n}@example.com": ("non_marketable", False) for n in PEOPLE}


def worker_context(pool: asyncpg.Pool, settings: Settings) -> WorkerContext:
    broker = make_client_broker(settings.redis_url or "", settings.queue_namespace)
    context = WorkerContext(settings, Doorbell(broker, queue_outage(worker="test")), "test")
    context.use_pool(pool)
    return context


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
    context = worker_context(
        pool, settings.model_copy(update={"slice_seconds": 60.0, "chunks_at_once": 2})
    )

    async def at_work(count: int) -> bool:
        return await pool.fetchval(
            "select count(*) >= $1 from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
            " and query like '%email_addresses%'",
            count,
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


@pytest.fixture
async def job_id(pool: asyncpg.Pool, settings: Settings) -> int:
    """A job of four chunks with a contact each, whose two lanes are taken by the worker `gone`."""
    job_id = await planned_opt_out(pool, settings, "watched", contacts=4, lanes=2)
    await pool.execute(
        "update job_lanes set state = 'taken', worker = 'gone',"
        " touched_at = now() - interval '1 hour' where job_id = $1",
        job_id,
    )
    return job_id


async def test_what_another_lane_has_in_hand_is_suspected_and_counted_once(
    pool: asyncpg.Pool, job_id: int
) -> None:
    """A free chunk that another lane has noted is suspected by the one that claims it, before any
    sweep. Of two that saw it so only one counts an attempt, and while that one may live no other
    claims the chunk: an innocent contact is not blamed for two that came at the same time.
    """
    async with pool.acquire() as connection:
        await chunks.note_in_hand(connection, job_id, 1, lane=0, hop=0)
        seen = await chunks.claim(connection, job_id, share=0.0, lane=1)
        assert seen is not None
        assert (seen.chunk_no, seen.is_suspected, seen.careful_attempts) == (1, True, None)
        counted = [
            await chunks.count_attempt(connection, job_id, seen, lane=lane, hop=0)
            for lane in (1, 0)
        ]
        assert counted == [True, False]
        other = await chunks.claim(connection, job_id, share=0.0, lane=0)
        assert other is not None
        assert other.chunk_no == 2
        counted_again = await chunks.count_attempt(
            connection, job_id, seen._replace(careful_attempts=1), lane=0, hop=0
        )
        assert not counted_again
        await chunks.uncount_attempt(connection, job_id, 1)
        await progress.leave_lane(connection, job_id, 1, 0, "idle")
        freed = await chunks.claim(connection, job_id, share=0.0, lane=1)
        assert freed is not None
        assert (freed.chunk_no, freed.attempts, freed.careful_attempts) == (1, 0, 0)


async def test_a_slow_worker_is_not_taken_for_lost(pool: asyncpg.Pool, job_id: int) -> None:
    """Both lanes are silent for long. The worker of one waits in the transaction of a chunk; the
    other's is gone, and its lane is rung with a new hop and the chunk that it had in hand.
    """
    async with pool.acquire() as connection, pool.acquire() as slow, slow.transaction():
        await chunks.hold_job(slow, job_id, lane=0)
        await chunks.note_in_hand(connection, job_id, 3, lane=1, hop=0)
        async with connection.transaction():
            rung = await progress.ring_silent_lanes(connection, job_id, most=8, silence_seconds=5.0)
        assert rung == [progress.SilentLane(1, 1, "taken", "gone", 3)]
    assert await pool.fetchval("select max(lost) from job_lanes") == 0


async def test_chunks_that_outlast_every_limit_are_ended(
    pool: asyncpg.Pool, job_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction on a chunk that is older than any may be is ended by the sweeper, also where
    Postgres has no such limit itself, and a younger one is not.
    """
    async with pool.acquire() as connection, pool.acquire() as stuck:
        transaction = stuck.transaction()
        await transaction.start()
        await chunks.hold_job(stuck, job_id)
        assert await chunks.end_overlong(connection) == 0
        monkeypatch.setattr(chunks, "TRANSACTION_MS", 0)
        monkeypatch.setattr(chunks, "LOCK_MS", 0)
        assert await chunks.end_overlong(connection) == 1
        await wait_until_async(
            lambda: pool.fetchval(
                "select not exists (select from pg_locks where locktype = 'advisory'"
                " and classid = 7741)"
            ),
            deadline_seconds=10,
            what="the chunk is free",
        )


async def test_a_suspected_chunk_that_raises_keeps_its_three_attempts(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """What a careful worker came back from has lost none: a contact that raises is tried three
    times, though it was suspected, and refused with its own error.
    """
    await pool.execute(REFUSED_BY_POSTGRES)
    await make_account(pool, "raising")
    here = Works(pool, settings, "raising")
    arrived = await here.do("import", [["poison@example.com"]], permission=False)
    job_id = await here.submit("opt_in", await here.contacts_of(arrived), [1])
    context = worker_context(pool, settings)
    async with pool.acquire() as connection:
        await plan(connection, job_id, chunk_size=1, lanes=1)
        await chunks.suspect(connection, job_id, 1)
    seen = []
    for _ in range(ATTEMPTS):
        await pool.execute("update job_chunks set runnable_at = now() - interval '1 s'")
        (row,) = await pool.fetch(
            "update job_lanes set state = 'rung' where job_id = $1 returning lane, hop", job_id
        )
        await slices.advance(context, job_id, row["lane"], row["hop"])
        chunk = await pool.fetchrow(
            "select attempts, careful_attempts, state from job_chunks where job_id = $1", job_id
        )
        seen.append(tuple(chunk))
    assert [attempts for attempts, _, _ in seen] == [1, 2, 3]
    assert [careful for _, careful, state in seen if state == "pending"] == [0, 0]
    error = await pool.fetchval("select error from job_chunks where job_id = $1", job_id)
    assert "cannot be written" in error
