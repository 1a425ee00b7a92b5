"""Workers without work stay idle, and log nothing that would alert an operator."""

import json

import asyncpg
import pytest
import redis

from producers.control import cancel, pause, resume
from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.kit.factories import fill_large_account, make_account
from tests.kit.job_requests import FAST_RECOVERY, submit_account_job, wait_for_state
from tests.kit.waiting import wait_until_async, wait_until_lanes_idle
from tests.kit.worker_group import WorkerGroup

AT_WORK = 8
LANES = 12


@pytest.fixture
def fleet(start_group: StartGroup) -> WorkerGroup:
    """Start two processes that can work on eight lanes at a time and log every line."""
    options = FAST_RECOVERY | {
        "CHUNK_SIZE": "1",
        "JOB_CONCURRENCY": str(LANES),
        "LOG_LEVEL": "debug",
    }
    return start_group(processes=2, WORKER_THREADS="4", **options)


async def all_lanes_at_work(pool: asyncpg.Pool, job_id: int) -> bool:
    """Return whether as many lanes are held as there are threads, and the others are queued."""
    return await pool.fetchval(
        "select count(*) filter (where state = 'held') = $2"
        " and count(*) filter (where state = 'queued') = $3 from job_lanes where job_id = $1",
        *(job_id, AT_WORK, LANES - AT_WORK),
    )


@pytest.mark.usefixtures("fleet")
async def test_lanes_become_idle_when_their_job_is_stopped(pool: asyncpg.Pool, settings: Settings):
    """Eight lanes are held and four are queued when the job is paused or cancelled. All of them
    become idle and stay so, however many chunks are left.
    """
    await fill_large_account(pool, await make_account(pool, "stopped"), 1000)
    for stop in (pause, cancel):
        async with pool.acquire() as console, console.transaction():
            await console.execute("select from email_addresses for update")
            job_id = await submit_account_job(pool, settings, "stopped", "opt_out", "email1")
            await wait_until_async(
                lambda job_id=job_id: all_lanes_at_work(pool, job_id),
                deadline_seconds=30,
                what="all lanes are held or queued",
            )
        await stop(pool, settings, None, job_id)
        left = "select count(*) from job_chunks where job_id = $1 and state = 'pending'"
        assert await pool.fetchval(left, job_id) > LANES
        await wait_until_lanes_idle(pool)
    paused = await pool.fetchval("select min(id) from jobs where state = 'paused'")
    await resume(pool, settings, None, paused)
    await wait_for_state(pool, paused, "completed")


async def test_a_sweep_warns_only_when_a_message_was_lost(
    pool: asyncpg.Pool, settings: Settings, fleet: WorkerGroup
):
    """While contacts fail and are rejected, and jobs wait in the queue for long, the sweeper logs
    at debug only. Then Redis is emptied while a job waits, and the sweeper warns once.
    """
    await pool.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'this one never works'; end $$"
    )
    await pool.execute(
        "create trigger poison before update on email_addresses for each row"
        " when (new.id % 50 = 0) execute function refuse()"
    )
    jobs = []
    for account in ("one", "two", "three"):
        await fill_large_account(pool, await make_account(pool, account), 400)
        jobs.append(await submit_account_job(pool, settings, account, "opt_out", "email1"))
    for job_id in jobs:
        await wait_for_state(pool, job_id, "completed")
    await wait_until_lanes_idle(pool)
    assert not sweeps(fleet, "warning")
    assert sweeps(fleet, "debug")

    client = redis.Redis.from_url(settings.redis_url or "")
    for process in fleet.workers():
        process.suspend()
    try:
        lost = await submit_account_job(pool, settings, "one", "opt_out", "email1")
        client.flushall()
    finally:
        for process in fleet.workers():
            process.resume()
    await wait_for_state(pool, lost, "completed")
    warned = await wait_until_async(
        lambda: sweeps(fleet, "warning"), deadline_seconds=10, what="the sweeper warned"
    )
    assert {facts["job"] for facts in warned} == {lost}


def sweeps(group: WorkerGroup, level: str) -> list[dict]:
    """Return the log lines with this level about sweeps that requeued a job."""
    return [
        facts
        for facts in map(json.loads, group.lines())
        if facts["event"] == "sweep.requeued" and facts["level"] == level
    ]
