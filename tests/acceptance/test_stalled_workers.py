"""Stopped workers and broken connections: no command waits long, and no chunk is blamed."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from producers.control import cancel, pause, resume
from runtime.settings import Settings
from schemas.errors import StateConflict
from tests.acceptance.conftest import StartGroup
from tests.kit.code_copy import code_with
from tests.kit.factories import fill, make_account, statuses_of
from tests.kit.job_requests import submit_account_job, wait_for_state
from tests.kit.waiting import wait_until, wait_until_async
from tests.kit.worker_group import WorkerGroup

STANDS_STILL = '''
"""An action that blocks its process while a file exists."""

import time
from pathlib import Path

from actions.bulk_action import BulkAction, Params
from schemas.decisions import Decision, AddressState, leave


class StandStill(BulkAction):
    name = "stand_still"
    summary = "Stand still."
    params = Params

    def decide(self, state: AddressState, params: Params) -> Decision:
        while Path("blocked").exists():
            time.sleep(0.01)
        return leave("looked_at")
'''


async def make_contacts(pool: asyncpg.Pool, account: str, contacts: int) -> int:
    """Create an account with non-marketable contacts, and return its id."""
    account_id = await make_account(pool, account)
    addresses = [f"a{n}@example.com" for n in range(contacts)]
    await fill(
        pool,
        account_id,
        {1000 + n: {1: address} for n, address in enumerate(addresses)},
        dict.fromkeys(addresses, ("non_marketable", False)),
    )
    return account_id


@asynccontextmanager
async def lock_address(pool: asyncpg.Pool, account_id: int) -> AsyncIterator[None]:
    """Lock an address in another session, so that a worker waits in the middle of its chunk."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "select from email_addresses where account_id = $1 order by id limit 1 for update",
            account_id,
        )
        yield


async def find_waiting_backends(pool: asyncpg.Pool) -> list[int]:
    """Return the backends that wait for a lock on an address."""
    rows = await pool.fetch(
        "select pid from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock' and query like '%email_addresses%'"
        " and pid <> pg_backend_pid()"
    )
    return [row["pid"] for row in rows]


async def wait_until_stopped_in_a_chunk(pool: asyncpg.Pool) -> None:
    """Wait until a stopped process holds a transaction open."""

    async def idle() -> bool:
        return await pool.fetchval(
            "select exists (select from pg_stat_activity where datname = current_database()"
            " and state = 'idle in transaction' and pid <> pg_backend_pid())"
        )

    await wait_until_async(idle, deadline_seconds=30, what="a stopped worker is in a chunk")


def signal_workers(group: WorkerGroup, number: signal.Signals) -> list[psutil.Process]:
    """Signal the worker processes; after SIGSTOP, return only once all of them are stopped.

    One of a process's threads has to run before the signal stops all of them, so others may go on
    until then.
    """
    workers = group.workers()
    assert workers
    for process in workers:
        process.send_signal(number)
    if number == signal.SIGSTOP:
        wait_until(
            lambda: all(_is_stopped(process) for process in workers),
            deadline_seconds=30,
            what="the workers are stopped",
        )
    return workers


def _is_stopped(process: psutil.Process) -> bool:
    return all(
        psutil.Process(thread.id).status() == psutil.STATUS_STOPPED for thread in process.threads()
    )


@pytest.mark.parametrize("command", [pause, cancel])
async def test_a_stopped_worker_delays_no_job(
    command, pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """Pause and cancel answer while a worker is stopped in mid-chunk. Its chunk is rolled back, and
    nothing of it is done when the worker continues.
    """
    account_id = await make_contacts(pool, "stopped", 20)
    group = start_group()
    async with lock_address(pool, account_id):
        job_id = await submit_account_job(pool, settings, "stopped", "opt_out", "email1")
        await wait_until_async(
            lambda: find_waiting_backends(pool),
            deadline_seconds=30,
            what="a worker is in the chunk",
        )
        signal_workers(group, signal.SIGSTOP)
    await wait_until_stopped_in_a_chunk(pool)
    # Postgres itself would end the transaction only after ten seconds.
    await asyncio.wait_for(command(pool, settings, None, job_id), 8)
    assert await pool.fetchval("select count(*) from results") == 0
    signal_workers(group, signal.SIGCONT)
    wait_until(
        lambda: any('"chunk.interrupted"' in line for line in group.lines()),
        deadline_seconds=30,
        what="the worker logged the interruption",
    )
    assert await pool.fetchval("select count(*) from results") == 0
    if command is pause:
        await resume(pool, settings, None, job_id)
        await wait_for_state(pool, job_id, "completed")
        assert await pool.fetchval("select count(*) from results") == 20
    else:
        with pytest.raises(StateConflict):
            await resume(pool, settings, None, job_id)
        assert set(await statuses_of(pool, account_id)) != set()
        assert await pool.fetchval("select applied from jobs where id = $1", job_id) == 0


async def test_the_chunk_of_a_stopped_worker_is_done_by_another(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """Another worker does the chunk of a stopped one. The stopped worker, once it continues, finds
    nothing left to do.
    """
    account_id = await make_contacts(pool, "stopped", 20)
    group = start_group()
    async with lock_address(pool, account_id):
        job_id = await submit_account_job(pool, settings, "stopped", "opt_out", "email1")
        await wait_until_async(
            lambda: find_waiting_backends(pool),
            deadline_seconds=30,
            what="a worker is in the chunk",
        )
        signal_workers(group, signal.SIGSTOP)
    start_group()
    await wait_for_state(pool, job_id, "completed")
    signal_workers(group, signal.SIGCONT)
    await wait_for_state(
        pool, await submit_account_job(pool, settings, "stopped", "opt_out", "email1"), "completed"
    )
    assert await pool.fetchval("select count(*) from results where outcome = 'applied'") == 20


async def test_broken_connections_are_not_the_chunks_fault(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """A connection is ended again and again during one chunk, while the worker lives. No attempt is
    counted, the lane is not lost, and the contact is opted out in the end.
    """
    account_id = await make_contacts(pool, "broken", 1)
    group = start_group()
    async with lock_address(pool, account_id):
        job_id = await submit_account_job(pool, settings, "broken", "opt_out", "email1")
        for _ in range(6):
            (waiting,) = await wait_until_async(
                lambda: find_waiting_backends(pool),
                deadline_seconds=30,
                what="a worker is in the chunk",
            )
            await pool.execute("select pg_terminate_backend($1)", waiting)
            await wait_until_async(
                lambda waiting=waiting: _is_gone(pool, waiting),
                deadline_seconds=30,
                what="the connection was ended",
            )
        lost = await pool.fetchval(
            "select max(lost_workers) from job_lanes where job_id = $1", job_id
        )
    await wait_for_state(pool, job_id, "completed")
    assert lost == 0
    assert await pool.fetchval("select attempts from job_chunks where job_id = $1", job_id) == 0
    assert await statuses_of(pool, account_id) == {"a0@example.com": ("admin", False)}
    lines = group.lines()
    assert sum('"chunk.interrupted"' in line for line in lines) == 6
    # Postgres was reachable all the time.
    assert not any('"database.unreachable"' in line for line in lines)


async def test_a_full_disk_counts_no_attempts(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """While nothing can be written, no attempt is counted, and the job goes on afterwards. The lane
    pauses in between, so that the log does not fill the disk too.
    """
    account_id = await make_contacts(pool, "full", 5)
    await pool.execute(
        "create function no_room() returns trigger language plpgsql as"
        " $$ begin raise exception 'no space left' using errcode = 'disk_full'; end $$"
    )
    await pool.execute(
        "create trigger full_disk before insert on results for each statement"
        " execute function no_room()"
    )
    group = start_group()
    job_id = await submit_account_job(pool, settings, "full", "opt_out", "email1")

    def interrupted() -> int:
        return sum('"chunk.interrupted"' in line for line in group.lines())

    await wait_until_async(
        lambda: interrupted() > 3, deadline_seconds=60, what="the chunk was tried again"
    )
    await pool.execute("drop trigger full_disk on results")
    await wait_for_state(pool, job_id, "completed")
    assert await pool.fetchval("select attempts from job_chunks where job_id = $1", job_id) == 0
    assert set((await statuses_of(pool, account_id)).values()) == {("admin", False)}


async def _is_gone(pool: asyncpg.Pool, pid: int) -> bool:
    return await pool.fetchval(
        "select not exists (select from pg_stat_activity where pid = $1)", pid
    )


@pytest.fixture
def code_that_blocks(tmp_path: Path) -> Path:
    """Copy the code, with an action that blocks."""
    return code_with("stand_still", STANDS_STILL, tmp_path)


async def test_a_blocked_event_loop_ends_its_process_and_logs_where(
    pool: asyncpg.Pool,
    settings: Settings,
    start_group: StartGroup,
    code_that_blocks: Path,
):
    """The watchdog ends a worker whose event loop is blocked, and logs the place in the code. Its
    replacement does the chunk.
    """
    await make_contacts(pool, "blocked", 3)
    flag = code_that_blocks / "blocked"
    flag.touch()
    group = start_group(code=code_that_blocks, WATCHDOG_SECONDS="1")
    await pool.execute(
        "insert into jobs (account_id, action, fields, selection, requested_by, request_hash,"
        " correlation_id) select id, 'stand_still', '{1}', '{\"all\": true}', 'test', '', 'c'"
        " from accounts where name = 'blocked'"
    )
    await asyncio.to_thread(group.wait_gone, deadline_seconds=60)
    (line,) = [line for line in group.lines() if '"worker.stuck"' in line]
    assert "actions/stand_still.py" in line
    assert "in decide" in line
    facts = json.loads(line)
    assert (facts["action"], facts["chunk"]) == ("stand_still", 1)
    assert facts["job"] == await pool.fetchval("select max(id) from jobs")
    flag.unlink()
    await asyncio.to_thread(start_group, code=code_that_blocks)
    job_id = await pool.fetchval("select max(id) from jobs")
    await wait_for_state(pool, job_id, "completed")
    assert await pool.fetchval("select unchanged from jobs where id = $1", job_id) == 3


async def test_a_process_that_was_stopped_as_a_whole_is_not_stuck(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup
):
    """A stop of several times WATCHDOG_SECONDS ends no process, as the loop continues after it."""
    await make_contacts(pool, "frozen", 3)
    group = start_group(WATCHDOG_SECONDS="0.5")
    began = asyncio.get_running_loop().time()
    signal_workers(group, signal.SIGSTOP)
    await wait_until_async(
        lambda: asyncio.get_running_loop().time() > began + 2,
        deadline_seconds=30,
        what="two seconds passed",
    )
    signal_workers(group, signal.SIGCONT)
    await wait_for_state(
        pool, await submit_account_job(pool, settings, "frozen", "opt_out", "email1"), "completed"
    )
    assert not any('"worker.stuck"' in line for line in group.lines())
    assert group.process.poll() is None
