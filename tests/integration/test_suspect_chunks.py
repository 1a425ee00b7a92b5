"""A chunk that may have ended its worker is worked alone: what it is blamed for is then its own."""

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
from workers.enqueue import JobQueue
from workers.sweeper import sweep

PEOPLE = {n: {1: f"a{n}@example.com"} for n in (1, 2)}
STATUSES = {f"a{n}@example.com": ("non_marketable", False) for n in PEOPLE}


def worker_context(pool: asyncpg.Pool, settings: Settings) -> WorkerContext:
    """Make the context of a worker process that enqueues in the test's Redis."""
    broker = make_client_broker(settings.redis_url or "", settings.queue_namespace)
    context = WorkerContext(settings, JobQueue(broker, queue_outage(worker="test")), "test")
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
        await plan_job(connection, await key_of(pool, job_id), chunk_size=1, max_lanes=2)
    rung = await pool.fetch(
        "update job_lanes set state = 'queued', lost_workers = ($2::int[])[lane + 1] where"
        " job_id = $1"
        " returning lane, token, lost_workers",
        *(job_id, lost),
    )
    assert [row["lost_workers"] for row in rung] == lost
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
            for row in rung
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
    """A job of four chunks with a contact each, whose two lanes are taken by the worker `gone`."""
    job_id = await submit_planned_opt_out(pool, settings, "watched", contacts=4, lanes=2)
    await pool.execute(
        "update job_lanes set state = 'held', worker = 'gone',"
        " touched_at = now() - interval '1 hour' where job_id = $1",
        job_id,
    )
    return job_id


async def test_what_another_lane_has_in_hand_is_left_alone(pool: asyncpg.Pool, job_id: int) -> None:
    """A free chunk that another lane has noted may have been rolled back, or have lost its worker.
    No other lane claims it, or counts an attempt at it, until that lane puts it down, and then it
    is not suspected.
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


async def test_of_two_lanes_that_saw_a_suspected_chunk_one_counts_an_attempt(
    pool: asyncpg.Pool, job_id: int
) -> None:
    """While that one may live no other claims the chunk: an innocent contact is not blamed for two
    that came at the same time.
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


async def test_a_slow_worker_is_not_taken_for_lost(pool: asyncpg.Pool, job_id: int) -> None:
    """Both lanes are silent for long. The worker of one waits in the transaction of a chunk; the
    other's is gone, and its lane is rung with a new token and the chunk that it had in hand.
    """
    key = await key_of(pool, job_id)
    async with pool.acquire() as connection, pool.acquire() as slow, slow.transaction():
        await chunks.lock_job_shared(slow, job_id, lane=0)
        await chunks.record_current_chunk(connection, LaneToken(*key, 1, 0), 3)
        rung = await lanes.requeue_stalled_lanes(
            connection, key, limit=8, stalled_after_seconds=0.0
        )
        assert rung == [lanes.StalledLane(LaneToken(*key, 1, 1), "held", "gone", 3)]
    assert await pool.fetchval("select max(lost_workers) from job_lanes") == 0
    suspected = await pool.fetch("select chunk_no from job_chunks where suspect_attempts = 0")
    assert [row["chunk_no"] for row in suspected] == [3]


async def test_chunks_that_outlast_every_limit_are_ended(
    pool: asyncpg.Pool, job_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction on a chunk that is older than any may be is ended by the sweeper, also where
    Postgres has no such limit itself, and a younger one is not.
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


async def test_a_suspected_chunk_that_raises_keeps_its_three_attempts(
    pool: asyncpg.Pool, settings: Settings
) -> None:
    """What a careful worker came back from has lost none: a contact that raises is tried three
    times, though it was suspected, and refused with its own error.
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
    assert [careful for _, careful, state in seen if state == "pending"] == [0, 0]
    error = await pool.fetchval("select error from job_chunks where job_id = $1", job_id)
    assert "cannot be written" in error


async def test_a_chunk_that_was_rolled_back_under_contention_is_not_suspected(
    pool: asyncpg.Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane's chunk meets a lock for too long and is rolled back; the lane rests for a moment, and
    lives. Another lane works the job meanwhile: no chunk is taken for one that lost a worker, and
    no attempt is counted.
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
            resting = asyncio.create_task(first)
            await wait_until_async(
                lambda: any(line["event"] == "chunk.interrupted" for line in lines),
                deadline_seconds=10,
                what="the chunk was rolled back",
            )
        await second
        await resting
    assert (
        await pool.fetch(
            "select chunk_no, attempts, suspect_attempts from job_chunks"
            " where job_id = $1 and (attempts > 0 or suspect_attempts is not null)",
            job_id,
        )
        == []
    )
    assert await pool.fetchval("select state from jobs where id = $1", job_id) == "completed"


async def test_the_wait_for_a_lane_that_is_looked_at_has_a_limit(
    pool: asyncpg.Pool, job_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another session has the lane's lock, or the job's, a chunk waits for it as long as for
    any other lock, and is then begun again.
    """
    monkeypatch.setattr(chunks, "LOCK_MS", 100)
    for lock in ("7745, hashint8($1::bigint * 1024)", "7741, hashint8($1)"):
        async with pool.acquire() as sweeper, sweeper.transaction(), pool.acquire() as connection:
            await sweeper.execute(f"select pg_advisory_xact_lock({lock})", job_id)
            with pytest.raises(asyncpg.LockNotAvailableError):
                async with asyncio.timeout(30), connection.transaction():
                    await chunks.lock_job_shared(connection, job_id, lane=0)


class RecordingJobQueue(JobQueue):
    """A doorbell that looks, before it rings for a job, which locks the others hold meanwhile."""

    pool: asyncpg.Pool
    seen: list[int]

    async def enqueue_lanes(self, lanes: Iterable[LaneToken], *, urgent: bool) -> bool:
        """Note how many locks are held while a lane is enqueued, then enqueue it."""
        self.seen.append(
            await self.pool.fetchval(
                "select count(*) from pg_locks where pid <> pg_backend_pid()"
                " and database = (select oid from pg_database where datname = current_database())"
            )
        )
        return await super().enqueue_lanes(lanes, urgent=urgent)


async def test_the_sweeper_holds_no_lock_while_it_enqueues(
    pool: asyncpg.Pool, settings: Settings, job_id: int
) -> None:
    """Two jobs have lanes to ring. When the sweeper rings for each, which may take long, it keeps
    nothing locked that a chunk, a pause or another sweeper would wait for.
    """
    await submit_planned_opt_out(pool, settings, "watched_too", contacts=4, lanes=2)
    await pool.execute("update job_lanes set touched_at = now() - interval '1 hour'")
    context = worker_context(pool, settings.model_copy(update={"stalled_after_seconds": 0.01}))
    broker = make_client_broker(settings.redis_url or "", settings.queue_namespace)
    bell = context.job_queue = RecordingJobQueue(broker, queue_outage(worker="test"))
    bell.pool, bell.seen = pool, []
    await pool.execute("update sweeps set swept_at = '-infinity'")
    await sweep(context)
    assert bell.seen == [0, 0]
    lost = await pool.fetch(
        "select lost_workers, state from job_lanes where job_id = $1 order by lane", job_id
    )
    assert [tuple(row) for row in lost] == [(1, "queued"), (1, "queued")]
