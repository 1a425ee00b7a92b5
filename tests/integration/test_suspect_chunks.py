"""A process works on a suspect chunk with no other, so a lost worker says something about it."""

import asyncio
from collections.abc import Iterable

import asyncpg
import pytest
from structlog.testing import capture_logs

from db import chunks, lanes
from db.lanes import LaneToken
from engine.planner import plan_job
from engine.retry_policy import MAX_ATTEMPTS
from runtime.outages import queue_outage
from runtime.settings import Settings
from tests.kit.factories import fill, key_of, make_account
from tests.kit.sample_account import REFUSED_BY_POSTGRES, AccountDriver
from tests.kit.submitting import submit_job, submit_planned_opt_out
from tests.kit.waiting import wait_until_async
from workers import slices
from workers.broker import make_client_broker
from workers.context import WorkerContext
from workers.job_queue import JobQueue
from workers.sweeper import sweep

CONTACTS = {n: {1: f"a{n}@example.com"} for n in (1, 2)}
STATUSES = {f"a{n}@example.com": ("non_marketable", False) for n in CONTACTS}


def worker_context(pool: asyncpg.Pool, settings: Settings) -> WorkerContext:
    """Return the context of a worker process that enqueues in the test's Redis."""
    broker = make_client_broker(settings.redis_url or "", settings.queue_namespace)
    context = WorkerContext(settings, JobQueue(broker, queue_outage()), "test")
    context.use_pool(pool)
    return context


@pytest.mark.parametrize("lost", [[1, 1], [1, 0], [0, 1]])
async def test_a_process_works_on_a_suspect_chunk_alone(
    pool: asyncpg.Pool, settings: Settings, lost: list[int]
) -> None:
    """Promise 4: a process has two lanes, each with a slow chunk, and one or both have lost a
    worker. While an attempt is counted before it is made, no other chunk is in work. Both get done.
    """
    await fill(pool, await make_account(pool, "suspected"), CONTACTS, STATUSES)
    job_id = await submit_job(
        pool, settings, "suspected", "opt_out", list(CONTACTS), [1], {"kind": "admin"}
    )
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job_id), chunk_size=1, max_lanes=2)
    requeued = await pool.fetch(
        "update job_lanes set state = 'queued', lost_workers = ($2::int[])[lane + 1] where"
        " job_id = $1"
        " returning lane, token, lost_workers",
        *(job_id, lost),
    )
    assert [row["lost_workers"] for row in requeued] == lost
    key = await key_of(pool, job_id)
    context = worker_context(
        pool, settings.model_copy(update={"slice_seconds": 60.0, "chunks_per_process": 2})
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
            asyncio.create_task(
                slices.advance_lane(context, LaneToken(*key, row["lane"], row["token"]))
            )
            for row in requeued
        ]
        await wait_until_async(lambda: at_work(1), deadline_seconds=10, what="a chunk at work")
        with pytest.raises(AssertionError, match="not within"):
            await wait_until_async(
                lambda: at_work(2), deadline_seconds=1, what="two at work", timeout_factor=1
            )
        assert await pool.fetchval("select sum(attempts) <= 1 from job_chunks")
    await asyncio.gather(*lanes)
    assert await pool.fetchval("select count(*) from results where outcome = 'applied'") == 2
    assert await pool.fetchval("select state from jobs where id = $1", job_id) == "completed"


@pytest.fixture
async def job_id(pool: asyncpg.Pool, settings: Settings) -> int:
    """Submit a job of four chunks with a contact each; the worker `gone` holds both its lanes."""
    job_id = await submit_planned_opt_out(pool, settings, "watched", contacts=4, lanes=2)
    await pool.execute(
        "update job_lanes set state = 'held', worker = 'gone',"
        " touched_at = now() - interval '1 hour' where job_id = $1",
        job_id,
    )
    return job_id


async def test_no_lane_claims_the_current_chunk_of_another(pool: asyncpg.Pool, job_id: int) -> None:
    """A free chunk that is another lane's current one was rolled back, or its worker was lost. No
    other lane claims it or counts an attempt until that lane clears it. Then it is no suspect.
    """
    key = await key_of(pool, job_id)
    async with pool.acquire() as connection:
        free = await chunks.claim_next(connection, key, share=0.0, lane=1)
        assert free is not None
        await chunks.record_current_chunk(connection, LaneToken(*key, 0, 0), 1)
        claimed = [await chunks.claim_next(connection, key, share=0.0, lane=n) for n in (0, 1)]
        assert [chunk and chunk.chunk_no for chunk in claimed] == [1, 2]
        assert not await chunks.count_attempt(connection, LaneToken(*key, 1, 0), free)
        await chunks.record_current_chunk(connection, LaneToken(*key, 0, 0), None)
        assert await chunks.claim_next(connection, key, share=0.0, lane=1) == free
        assert not free.is_suspected


async def test_one_of_two_lanes_counts_an_attempt_at_a_suspect_chunk(
    pool: asyncpg.Pool, job_id: int
) -> None:
    """No other lane claims the chunk while that one's worker may be alive. So two lanes that come
    at the same time do not count two attempts.
    """
    key = await key_of(pool, job_id)
    async with pool.acquire() as connection:
        await connection.execute("update job_chunks set suspect_attempts = 0 where chunk_no = 1")
        seen = await chunks.claim_next(connection, key, share=0.0, lane=1)
        assert seen is not None
        assert (seen.chunk_no, seen.is_suspected) == (1, True)
        counted = [
            await chunks.count_attempt(connection, LaneToken(*key, lane, 0), seen)
            for lane in (1, 0)
        ]
        assert counted == [True, False]
        other = await chunks.claim_next(connection, key, share=0.0, lane=0)
        assert other is not None
        assert other.chunk_no == 2
        counted_again = await chunks.count_attempt(
            connection, LaneToken(*key, 0, 0), seen._replace(suspect_attempts=1)
        )
        assert not counted_again
        await chunks.uncount_attempt(connection, key, 1)
        await lanes.release_lane(connection, LaneToken(*key, 1, 0), state="idle")
        freed = await chunks.claim_next(connection, key, share=0.0, lane=1)
        assert freed is not None
        assert (freed.chunk_no, freed.attempts, freed.suspect_attempts) == (1, 0, 0)


async def test_a_slow_worker_does_not_count_as_lost(pool: asyncpg.Pool, job_id: int) -> None:
    """Both lanes have long been silent. One worker waits in a transaction on a chunk. The other is
    lost: its lane is requeued with a new token, and its current chunk becomes a suspect chunk.
    """
    key = await key_of(pool, job_id)
    async with pool.acquire() as connection, pool.acquire() as slow, slow.transaction():
        await chunks.lock_job_shared(slow, job_id, lane=0)
        await chunks.record_current_chunk(connection, LaneToken(*key, 1, 0), 3)
        requeued = await lanes.requeue_stalled_lanes(
            connection, key, limit=8, stalled_after_seconds=0.0
        )
        assert requeued == [lanes.StalledLane(LaneToken(*key, 1, 1), "held", "gone", 3)]
    assert await pool.fetchval("select max(lost_workers) from job_lanes") == 0
    suspected = await pool.fetch("select chunk_no from job_chunks where suspect_attempts = 0")
    assert [row["chunk_no"] for row in suspected] == [3]


async def test_transactions_on_chunks_that_are_too_long_are_ended(
    pool: asyncpg.Pool, job_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper ends a transaction on a chunk that is older than the limit, and no younger one.
    It does so even if Postgres has no such limit itself.
    """
    async with pool.acquire() as connection, pool.acquire() as stuck:
        transaction = stuck.transaction()
        await transaction.start()
        await chunks.lock_job_shared(stuck, job_id)
        assert await chunks.terminate_overlong_chunks(connection) == 0
        monkeypatch.setattr(chunks, "TRANSACTION_MS", 0)
        monkeypatch.setattr(chunks, "LOCK_MS", 0)
        assert await chunks.terminate_overlong_chunks(connection) == 1
        await wait_until_async(
            lambda: pool.fetchval(
                "select not exists (select from pg_locks where locktype = 'advisory'"
                " and classid = 7741)"
            ),
            deadline_seconds=10,
            what="the chunk is free",
        )


async def test_a_suspect_chunk_that_raises_has_three_attempts(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """An attempt that ends with an error has lost no worker. The contact of a suspect chunk is
    tried three times, and rejected with its own error.
    """
    await pool.execute(REFUSED_BY_POSTGRES)
    await make_account(pool, "raising")
    here = AccountDriver(pool, settings, "raising")
    arrived = await here.run("import", [["poison@example.com"]], permission=False)
    job_id = await here.submit("opt_in", await here.contacts_of(arrived), [1])
    context = worker_context(pool, settings)
    async with pool.acquire() as connection:
        await plan_job(connection, await key_of(pool, job_id), chunk_size=1, max_lanes=1)
        await connection.execute("update job_chunks set suspect_attempts = 0")
    seen = []
    for _ in range(MAX_ATTEMPTS):
        await pool.execute("update job_chunks set runnable_at = now() - interval '1 s'")
        (row,) = await pool.fetch(
            "update job_lanes set state = 'queued' where job_id = $1 returning lane, token", job_id
        )
        await slices.advance_lane(
            context, LaneToken(*await key_of(pool, job_id), row["lane"], row["token"])
        )
        chunk = await pool.fetchrow(
            "select attempts, suspect_attempts, state from job_chunks where job_id = $1", job_id
        )
        seen.append(tuple(chunk))
    assert [attempts for attempts, _, _ in seen] == [1, 2, 3]
    assert [suspect for _, suspect, state in seen if state == "pending"] == [0, 0]
    error = await pool.fetchval("select error from job_chunks where job_id = $1", job_id)
    assert "cannot be written" in error


async def test_a_chunk_that_contention_rolled_back_is_no_suspect(
    pool: asyncpg.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk waits too long for a lock and is rolled back, and its slice pauses for a moment.
    Another lane works on the job meanwhile. No chunk becomes a suspect, and no attempt is counted.
    """
    monkeypatch.setattr(chunks, "LOCK_MS", 200)
    monkeypatch.setattr(slices, "INTERRUPTION_PAUSE_SECONDS", 2.0)
    job_id = await submit_planned_opt_out(pool, settings, "contended", contacts=4, lanes=2)
    context = worker_context(pool, settings)
    rows = await pool.fetch("select lane, token from job_lanes where job_id = $1", job_id)
    with capture_logs() as lines:
        async with pool.acquire() as console, console.transaction():
            await console.execute("select from email_addresses for update")
            key = await key_of(pool, job_id)
            first, second = (slices.advance_lane(context, LaneToken(*key, *row)) for row in rows)
            paused_slice = asyncio.create_task(first)
            await wait_until_async(
                lambda: any(line["event"] == "chunk.interrupted" for line in lines),
                deadline_seconds=10,
                what="the chunk was rolled back",
            )
        await second
        await paused_slice
    assert (
        await pool.fetch(
            "select chunk_no, attempts, suspect_attempts from job_chunks"
            " where job_id = $1 and (attempts > 0 or suspect_attempts is not null)",
            job_id,
        )
        == []
    )
    assert await pool.fetchval("select state from jobs where id = $1", job_id) == "completed"


async def test_the_wait_for_the_locks_of_job_and_lane_has_a_limit(
    pool: asyncpg.Pool, job_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another session has the lane's lock or the job's, a chunk waits as long as for any
    other lock, and then begins again.
    """
    monkeypatch.setattr(chunks, "LOCK_MS", 100)
    for lock in ("7745, hashint8($1::bigint * 1024)", "7741, hashint8($1)"):
        async with pool.acquire() as sweeper, sweeper.transaction(), pool.acquire() as connection:
            await sweeper.execute(f"select pg_advisory_xact_lock({lock})", job_id)
            with pytest.raises(asyncpg.LockNotAvailableError):
                async with asyncio.timeout(30), connection.transaction():
                    await chunks.lock_job_shared(connection, job_id, lane=0)


class RecordingJobQueue(JobQueue):
    """A queue that counts the locks of other sessions before it enqueues lanes."""

    pool: asyncpg.Pool
    seen: list[int]

    async def enqueue_lanes(self, lanes: Iterable[LaneToken], *, action: str) -> bool:
        """Record how many locks are held, then enqueue the lanes."""
        self.seen.append(
            await self.pool.fetchval(
                "select count(*) from pg_locks where pid <> pg_backend_pid()"
                " and database = (select oid from pg_database where datname = current_database())"
            )
        )
        return await super().enqueue_lanes(lanes, action=action)


async def test_the_sweeper_holds_no_lock_while_it_enqueues(
    pool: asyncpg.Pool, settings: Settings, job_id: int
) -> None:
    """Two jobs have stalled lanes. While the sweeper enqueues them, which may take long, it holds
    no lock for which a chunk, a pause or another sweeper would wait.
    """
    await submit_planned_opt_out(pool, settings, "watched_too", contacts=4, lanes=2)
    await pool.execute("update job_lanes set touched_at = now() - interval '1 hour'")
    context = worker_context(pool, settings.model_copy(update={"stalled_after_seconds": 0.01}))
    broker = make_client_broker(settings.redis_url or "", settings.queue_namespace)
    job_queue = context.job_queue = RecordingJobQueue(broker, queue_outage())
    job_queue.pool, job_queue.seen = pool, []
    await pool.execute("update sweeps set swept_at = '-infinity'")
    await sweep(context)
    assert job_queue.seen == [0, 0]
    lost = await pool.fetch(
        "select lost_workers, state from job_lanes where job_id = $1 order by lane", job_id
    )
    assert [tuple(row) for row in lost] == [(1, "queued"), (1, "queued")]
