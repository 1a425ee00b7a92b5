"""Pause, resume and cancel: what they change, what they wait for, and when they raise an error."""

import asyncio

import pytest
from structlog.testing import capture_logs

from engine.planner import plan_job
from producers import control
from producers.invalid_request import parse_request
from producers.submit import submit
from schemas.errors import NotFound, SluiceError, StateConflict
from schemas.outcomes import FINAL_STATES, STATE_CHANGES, JobState
from tests.kit.factories import fill_large_account, key_of, make_account
from tests.kit.waiting import wait_until_lock_contended

COMMANDS = {
    control.pause: JobState.PAUSED,
    control.resume: JobState.RUNNING,
    control.cancel: JobState.CANCELLED,
}


@pytest.fixture
async def job_id(pool, settings):
    """Submit a job that waits to be planned."""
    return await submit_opt_out(pool, settings)


async def submit_opt_out(pool, settings, **changes):
    """Submit an opt-out of all contacts, and return its id."""
    request = parse_request(
        {"action": "opt_out", "selection": {"all": True}, "requested_by": "tester", **changes}
    )
    return (await submit(pool, settings, request)).job_id


async def set_state(pool, job_id, state):
    """Put the job into `state`."""
    await pool.execute(
        "update jobs set state = $2::job_state, selected = 0, planned_at = now(),"
        " forecast = case when plan_first then '{}'::jsonb end,"
        " finished_at = case when $2::text = any($3) then now() end where id = $1",
        job_id,
        state.value,
        [ended.value for ended in FINAL_STATES],
    )


async def state_of(pool, job_id):
    """Return the job's state."""
    return await pool.fetchval("select state from jobs where id = $1", job_id)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("current", [s for s in JobState if s is not JobState.PLANNING])
async def test_only_listed_changes_of_state_happen(pool, settings, command, current):
    """A command makes only changes in STATE_CHANGES. It accepts a job that is already in the wanted
    state, and raises an error otherwise.
    """
    wanted = COMMANDS[command]
    job_id = await submit_opt_out(pool, settings, plan_first=current is JobState.PLANNED)
    await set_state(pool, job_id, current)
    if current is wanted or (current, wanted) in STATE_CHANGES:
        assert await command(pool, settings, None, job_id) is wanted
        assert await state_of(pool, job_id) == wanted
    else:
        with pytest.raises(StateConflict, match=f"is {current.value} and cannot be"):
            await command(pool, settings, None, job_id)
        assert await state_of(pool, job_id) == current


async def test_a_job_paused_before_planning_is_planned_on_resume(pool, settings, job_id):
    """Resuming returns a job to planning if its selection was not frozen yet."""
    assert await control.pause(pool, settings, None, job_id) is JobState.PAUSED
    assert await control.resume(pool, settings, None, job_id) is JobState.PLANNING
    assert await control.resume(pool, settings, None, job_id) is JobState.PLANNING


async def test_a_repeated_command_is_logged_once(pool, settings, job_id):
    """Only the first command is logged. Repeating it gives the same answer and changes nothing."""
    with capture_logs() as logs:
        for command in (control.pause, control.pause, control.cancel, control.cancel):
            await command(pool, settings, None, job_id)
    assert [line["event"] for line in logs] == ["job.paused", "job.cancelled"]
    assert all(line["job"] == job_id for line in logs)


async def test_a_cancelled_job_keeps_exact_counts(pool, settings, job_id):
    """The counts of a cancelled job are the sums of its finished chunks."""
    await set_state(pool, job_id, JobState.RUNNING)
    await pool.execute(
        "insert into job_chunks (account_id, job_id, chunk_no, item_ids, pairs, state, applied,"
        " unchanged, rejected, empty, propagated)"
        " select account_id, id, no, '{}', pairs, c.state, applied_, unchanged_, rejected_, empty_,"
        " propagated_ from jobs, (values (0, 10, 'done'::chunk_state, 4, 3, 2, 1, 7),"
        " (1, 5, 'done', 5, 0, 0, 0, 0), (2, 9, 'pending', 0, 0, 0, 0, 0)) as c (no, pairs, state,"
        " applied_, unchanged_, rejected_, empty_, propagated_) where id = $1",
        job_id,
    )
    assert await control.cancel(pool, settings, None, job_id) is JobState.CANCELLED
    row = await pool.fetchrow(
        "select applied, unchanged, rejected, empty, propagated, finished_at is not null"
        " from jobs where id = $1",
        job_id,
    )
    assert tuple(row) == (9, 3, 2, 1, 7, True)


async def lock_job_as_worker(connection, job_id):
    """Lock the job as a worker does for the duration of a chunk's transaction."""
    await connection.execute("select pg_advisory_xact_lock_shared(7741, hashint8($1))", job_id)


@pytest.mark.parametrize("command", [control.pause, control.cancel])
async def test_the_answer_waits_for_the_running_chunk(pool, settings, job_id, command):
    """A command answers only after the chunk's transaction has ended."""
    await set_state(pool, job_id, JobState.RUNNING)
    async with pool.acquire() as worker:
        async with worker.transaction():
            await lock_job_as_worker(worker, job_id)
            answer = asyncio.create_task(command(pool, settings, None, job_id))
            await wait_until_lock_contended(pool, what="the command waits")
            assert not answer.done()
            assert await state_of(pool, job_id) == JobState.RUNNING
        assert await answer is COMMANDS[command]


async def test_a_command_gives_up_on_a_long_chunk(pool, settings, job_id, monkeypatch):
    """Instead of hanging, the command raises an error that says that a chunk is still running."""
    monkeypatch.setattr(control, "LOCK_WAIT_SECONDS", 0.05)
    await set_state(pool, job_id, JobState.RUNNING)
    async with pool.acquire() as worker, worker.transaction():
        await lock_job_as_worker(worker, job_id)
        with pytest.raises(SluiceError, match="still running"):
            await control.pause(pool, settings, None, job_id)
    assert await state_of(pool, job_id) == JobState.RUNNING
    assert await pool.fetchval("show lock_timeout") == "0"


async def test_a_job_of_another_account_is_not_found(pool, settings, job_id):
    """With an account, only jobs of that account are found. An id out of range is not found."""
    account_id = await pool.fetchval("select account_id from jobs where id = $1", job_id)
    with pytest.raises(NotFound):
        await control.pause(pool, settings, account_id + 1, job_id)
    with pytest.raises(NotFound):
        await control.pause(pool, settings, None, 2**70)
    assert await control.pause(pool, settings, account_id, job_id) is JobState.PAUSED


@pytest.mark.parametrize("command", [control.pause, control.cancel])
async def test_a_job_can_be_stopped_while_it_is_planned(pool, settings, command):
    """Pause and cancel do not wait for the planner. The planner then commits a paused plan, or
    nothing if the job was cancelled.
    """
    await fill_large_account(pool, await make_account(pool, "large"), 50)
    request = parse_request(
        {"action": "opt_out", "selection": {"all": True}, "account": "large", "requested_by": "t"}
    )
    job_id = (await submit(pool, settings, request)).job_id
    async with pool.acquire() as blocking, pool.acquire() as planning:
        async with blocking.transaction():
            await blocking.execute("lock table contacts in access exclusive mode")
            planner = asyncio.create_task(
                plan_job(planning, await key_of(pool, job_id), chunk_size=10, max_lanes=2)
            )
            await wait_until_lock_contended(pool, what="the planner is running")
            new_state = await asyncio.wait_for(command(pool, settings, None, job_id), 10)
            assert not planner.done()
        await planner
    assert await state_of(pool, job_id) == new_state == COMMANDS[command]
    chunks = await pool.fetchval("select count(*) from job_chunks where job_id = $1", job_id)
    if command is control.cancel:
        assert chunks == 0
    else:
        assert chunks == 5
        assert await control.resume(pool, settings, None, job_id) is JobState.RUNNING
