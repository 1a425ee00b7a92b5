"""Pausing, resuming and cancelling: once these have answered, not one more address changes.

Every chunk holds a shared advisory lock of its job for the length of its transaction. Taking the
exclusive one waits for the chunks at work and keeps others from starting; they then read the new
state. So the answer is exact, and costs at most the time of one chunk.
"""

import time
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from db import activity, chunks, jobs
from engine.finalize import finalize_import
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, ActivityEvent, Actor
from schemas.errors import NotFound, SluiceError, StateConflict
from schemas.outcomes import FINAL_STATES, STATE_CHANGES, JobState
from workers.enqueue import enqueue_job

log = logs.get_logger()

CHUNK_WAIT_SECONDS = 1.0
"""How long the chunks at work are waited for, which take a fraction of it. Then they are ended:
they are rolled back, and done again where the job goes on."""

LOCK_WAIT_SECONDS = 10.0
"""How long it is tried altogether."""

_ACTIVE_STATES = (JobState.PLANNING, JobState.RUNNING)
_EVENTS = {
    JobState.PAUSED: events.JOB_PAUSED,
    JobState.RUNNING: events.JOB_RESUMED,
    JobState.CANCELLED: events.JOB_CANCELLED,
}
_PARTICIPLES = {wanted: event.name.removeprefix("job.") for wanted, event in _EVENTS.items()}
_ALLOWED_FROM = {
    wanted: [before for before, after in STATE_CHANGES if after is wanted]
    for wanted in (JobState.PAUSED, JobState.CANCELLED)
} | {JobState.RUNNING: [JobState.PAUSED]}
"""The states from which a person may bring a job to each state; only workers start a job."""


class _StateRequest(NamedTuple):
    """What is asked for, by whom and by which request."""

    state: JobState
    actor: Actor
    correlation_id: str | None


async def pause(
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int | None,
    job_id: int,
    *,
    actor: Actor = PYTHON,
    correlation_id: str | None = None,
) -> JobState:
    """Stop the job after the chunk at hand; pausing a paused job changes nothing.

    Raises NotFound, StateConflict for a job that has ended, and SluiceError when a chunk is still
    at work after `LOCK_WAIT_SECONDS`. `correlation_id` is that of the request by which the `actor`
    asks, if there is one.
    """
    return await _change_state(
        pool, settings, account_id, job_id, _StateRequest(JobState.PAUSED, actor, correlation_id)
    )


async def resume(
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int | None,
    job_id: int,
    *,
    actor: Actor = PYTHON,
    correlation_id: str | None = None,
) -> JobState:
    """Let a paused job go on where it stopped, and enqueue it.

    A running job stays as it is. Raises as `pause` does.
    """
    state = await _change_state(
        pool, settings, account_id, job_id, _StateRequest(JobState.RUNNING, actor, correlation_id)
    )
    job = await _require_job(pool, account_id, job_id)
    await enqueue_job(settings, account_id=job.account_id, job_id=job_id, action=job.action)
    return state


async def cancel(
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int | None,
    job_id: int,
    *,
    actor: Actor = PYTHON,
    correlation_id: str | None = None,
) -> JobState:
    """End the job after the chunk at hand; what was done stays done, and is counted.

    Cancelling a cancelled job changes nothing. Raises as `pause` does.
    """
    return await _change_state(
        pool, settings, account_id, job_id, _StateRequest(JobState.CANCELLED, actor, correlation_id)
    )


async def _change_state(
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int | None,
    job_id: int,
    wanted: _StateRequest,
) -> JobState:
    job = await _require_job(pool, account_id, job_id)
    gives_up = time.monotonic() + LOCK_WAIT_SECONDS
    async with pool.acquire() as connection:
        while True:
            try:
                state, changed = await _try_to_change_state(
                    connection, settings, job.account_id, job_id, wanted
                )
                break
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                if time.monotonic() > gives_up:
                    raise _still_running_error(job_id) from None
                with suppress(asyncpg.InsufficientPrivilegeError):
                    await jobs.terminate_chunks(connection, job_id)
    if changed:
        log.info(
            _EVENTS[wanted.state],
            job=job_id,
            account=job.account_id,
            action=job.action,
            state=state.value,
            correlation_id=job.correlation_id,
            request_correlation_id=wanted.correlation_id,
            **wanted.actor.log_keys(),
        )
    return state


async def _try_to_change_state(
    connection: asyncpg.Connection,
    settings: Settings,
    account_id: int,
    job_id: int,
    wanted: _StateRequest,
) -> tuple[JobState, bool]:
    """Return the job's state, and whether it was changed.

    Raises asyncpg.LockNotAvailableError if its chunks keep it locked for longer than a moment.
    """
    async with connection.transaction():
        await jobs.set_lock_timeout(connection, seconds=CHUNK_WAIT_SECONDS)
        await chunks.lock_job_exclusive(connection, job_id)
        job = await jobs.get_job(connection, job_id, account_id=account_id)
        assert job is not None
        if wanted.state is JobState.CANCELLED and job.state not in FINAL_STATES:
            limit = settings.shared_address_limit
            await finalize_import(connection, job, shared_address_limit=limit)
        changed = await _set_state(connection, account_id, job_id, wanted.state)
        if changed is None:
            return await _confirm_state(connection, account_id, job_id, wanted.state), False
        await activity.record(
            connection,
            ActivityEvent(_EVENTS[wanted.state].name),
            wanted.actor,
            account_id=account_id,
            job_id=job_id,
            correlation_id=wanted.correlation_id,
        )
        return changed, True


def _still_running_error(job_id: int) -> SluiceError:
    return SluiceError(
        f"Job {job_id} was not changed: a part of it is still being worked after"
        f" {LOCK_WAIT_SECONDS:.0f} seconds. Try again in a moment."
    )


async def _set_state(
    connection: asyncpg.Connection, account_id: int, job_id: int, wanted: JobState
) -> JobState | None:
    if wanted is JobState.CANCELLED:
        return await jobs.cancel(connection, account_id, job_id, from_states=_ALLOWED_FROM[wanted])
    return await jobs.set_state(
        connection, account_id, job_id, from_states=_ALLOWED_FROM[wanted], to_state=wanted
    )


async def _confirm_state(
    connection: asyncpg.Connection, account_id: int, job_id: int, wanted: JobState
) -> JobState:
    """Return the state of a job that is already as wanted; raises StateConflict for any other."""
    job = await jobs.get_job(connection, job_id, account_id=account_id)
    assert job is not None
    if job.state is wanted or (wanted is JobState.RUNNING and job.state in _ACTIVE_STATES):
        return job.state
    raise StateConflict(
        f"Job {job_id} is {job.state.value} and cannot be {_PARTICIPLES[wanted]}."
        " Nothing was changed."
    )


async def _require_job(pool: asyncpg.Pool, account_id: int | None, job_id: int) -> jobs.Job:
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=account_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
    return job
