"""Pause, resume and cancel: what they change, what they wait for, and what they refuse."""

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
    """A job that waits to be planned."""
    return await submitted(pool, settings)


async def submitted(pool, settings, **more):
    """Submit an opt-out of all contacts, and return its id."""
    request = parse_request(
        {"action": "opt_out", "selection": {"all": True}, "requested_by": "tester", **more}
    )
    return (await submit(pool, settings, request)).job_id


async def bring_to(pool, job_id, state):
    """Put the job in `state` the way workers do."""
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
@pytest.mark.parametrize("present", [s for s in JobState if s is not JobState.PLANNING])
async def test_only_listed_changes_of_state_happen(pool, settings, command, present):
    """A command follows STATE_CHANGES, is content where the job is there, and refuses the rest."""
    wanted = COMMANDS[command]
    job_id = await submitted(pool, settings, plan_first=present is JobState.PLANNED)
    await bring_to(pool, job_id, present)
    if present is wanted or (present, wanted) in STATE_CHANGES:
        assert await command(pool, settings, None, job_id) is wanted
        assert await state_of(pool, job_id) == wanted
    else:
        with pytest.raises(StateConflict, match=f"is {present.value} and cannot be"):
            await command(pool, settings, None, job_id)
        assert await state_of(pool, job_id) == present


async def test_a_job_that_was_paused_before_planning_is_planned_after(pool, settings, job_id):
    """Resuming returns a job to planning when its selection was not frozen yet."""
    assert await control.pause(pool, settings, None, job_id) is JobState.PAUSED
    assert await control.resume(pool, settings, None, job_id) is JobState.PLANNING
    assert await control.resume(pool, settings, None, job_id) is JobState.PLANNING


async def test_doing_it_twice_is_said_once(pool, settings, job_id):
    """Only a change is logged; repeating a command answers the same and changes nothing."""
    with capture_logs() as logs:
        for command in (control.pause, control.pause, control.cancel, control.cancel):
            await command(pool, settings, None, job_id)
    assert [line["event"] for line in logs] == ["job.paused", "job.cancelled"]
    assert all(line["job"] == job_id for line in logs)


async def test_a_cancelled_job_keeps_exact_counts(pool, settings, job_id):
    """Cancelling counts the chunks that were done, and no other."""
    await bring_to(pool, job_id, JobState.RUNNING)
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


async def work_a_chunk(connection, job_id):
    """Hold the job as a worker does for the length of a chunk's transaction."""
    await connection.execute("select pg_advisory_xact_lock_shared(7741, hashint8($1))", job_id)


@pytest.mark.parametrize("command", [control.pause, control.cancel])
async def test_the_answer_waits_for_the_chunk_at_work(pool, settings, job_id, command):
    """A command answers only after the chunk's transaction has ended."""
    await bring_to(pool, job_id, JobState.RUNNING)
    async with pool.acquire() as worker:
        async with worker.transaction():
            await work_a_chunk(worker, job_id)
            answer = asyncio.create_task(command(pool, settings, None, job_id))
            await wait_until_lock_contended(pool, what="the command waits")
            assert not answer.done()
            assert await state_of(pool, job_id) == JobState.RUNNING
        assert await answer is COMMANDS[command]


async def test_a_chunk_that_takes_too_long_is_said_and_nothing_changes(
    pool, settings, job_id, monkeypatch
):
    """Rather than hang, the command says that a part is still running."""
    monkeypatch.setattr(control, "LOCK_WAIT_SECONDS", 0.05)
    await bring_to(pool, job_id, JobState.RUNNING)
    async with pool.acquire() as worker, worker.transaction():
        await work_a_chunk(worker, job_id)
        with pytest.raises(SluiceError, match="still running"):
            await control.pause(pool, settings, None, job_id)
    assert await state_of(pool, job_id) == JobState.RUNNING
    assert await pool.fetchval("show lock_timeout") == "0"


async def test_a_job_of_another_account_is_not_there(pool, settings, job_id):
    """With an account given, only its own jobs are found; an absurd id is merely absent."""
    account_id = await pool.fetchval("select account_id from jobs where id = $1", job_id)
    with pytest.raises(NotFound):
        await control.pause(pool, settings, account_id + 1, job_id)
    with pytest.raises(NotFound):
        await control.pause(pool, settings, None, 2**70)
    assert await control.pause(pool, settings, account_id, job_id) is JobState.PAUSED


@pytest.mark.parametrize("command", [control.pause, control.cancel])
async def test_a_job_is_stopped_in_the_middle_of_its_planning(pool, settings, command):
    """Pause and cancel do not wait for the planner, and what it then commits is a plan that rests,
    or nothing.
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
            await wait_until_lock_contended(pool, what="the planner is at work")
            answered = await asyncio.wait_for(command(pool, settings, None, job_id), 10)
            assert not planner.done()
        await planner
    assert await state_of(pool, job_id) == answered == COMMANDS[command]
    chunks = await pool.fetchval("select count(*) from job_chunks where job_id = $1", job_id)
    if command is control.cancel:
        assert chunks == 0
    else:
        assert chunks == 5
        assert await control.resume(pool, settings, None, job_id) is JobState.RUNNING
