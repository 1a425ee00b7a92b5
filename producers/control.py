"""Pause, resume and cancel a job: once these return, not one more address changes.

Every chunk holds a shared advisory lock of its job for the length of its transaction. Taking the
exclusive one waits for the running chunks and keeps others from starting; they then read the new
state. So the answer is exact, and waits for one chunk at most.
"""

import time
from contextlib import suppress
from functools import partial

import asyncpg

from db import chunks, job_progress, jobs
from engine.sources import source_of
from producers.job_view import require_job
from producers.recorded_changes import recorded_change
from runtime import events
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import SluiceError, StateConflict
from schemas.outcomes import FINAL_STATES, STATE_CHANGES, JobState
from workers.enqueue import enqueue_job

CHUNK_WAIT_SECONDS = 1.0
"""How long to wait for running chunks, which take a fraction of it. Then they are terminated: they
roll back, and run again if the job continues."""

LOCK_WAIT_SECONDS = 10.0
"""How long to try altogether."""

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
"""The states from which an actor may bring a job to each state; only workers start a job."""


async def change_state(
    wanted: JobState,
    pool: asyncpg.Pool,
    settings: Settings,
    account_id: int | None,
    job_id: int,
    *,
    actor: Actor = PYTHON,
    correlation_id: str | None = None,
) -> JobState:
    """Bring the job to the wanted state and return its state; a repetition changes nothing.

    `correlation_id` is that of the actor's request, if there is one. Raises NotFound; StateConflict
    for a job that has ended, and for a planned one unless it is cancelled; and SluiceError if a
    chunk still runs after `LOCK_WAIT_SECONDS`.
    """
    async with pool.acquire() as connection:
        job = await require_job(connection, job_id, account_id=account_id)
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            state = await _try_to_change_state(
                wanted, pool, settings, job, actor=actor, correlation_id=correlation_id
            )
            break
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if time.monotonic() > deadline:
                raise SluiceError(
                    f"A chunk of job {job_id} is still running after {LOCK_WAIT_SECONDS:.0f}"
                    " seconds. The job was not changed. Try again in a moment."
                ) from None
            async with pool.acquire() as connection:
                with suppress(asyncpg.InsufficientPrivilegeError):
                    await jobs.terminate_chunks(connection, job_id)
    if wanted is JobState.RUNNING:
        await enqueue_job(settings, job.key, action=job.action)
    return state


pause = partial(change_state, JobState.PAUSED)
"""Stop the job after its running chunks."""

resume = partial(change_state, JobState.RUNNING)
"""Let a paused job continue where it stopped, and enqueue it; an active job stays as it is."""

cancel = partial(change_state, JobState.CANCELLED)
"""End the job after its running chunks; what was done stays done, and is counted."""


async def _try_to_change_state(
    wanted: JobState,
    pool: asyncpg.Pool,
    settings: Settings,
    job: jobs.Job,
    *,
    actor: Actor,
    correlation_id: str | None,
) -> JobState:
    """Change the state and return the new one.

    Raises asyncpg.LockNotAvailableError if chunks run for longer than `CHUNK_WAIT_SECONDS`.
    """
    async with recorded_change(pool, _EVENTS[wanted], actor) as change:
        connection = change.connection
        await jobs.set_timeouts(connection, seconds=CHUNK_WAIT_SECONDS)
        await chunks.lock_job_exclusive(connection, job.id)
        current = await jobs.get_job(connection, job.id, account_id=job.account_id)
        assert current is not None
        allowed = _ALLOWED_FROM[wanted]
        if wanted is JobState.CANCELLED:
            if current.state not in FINAL_STATES:
                limit = settings.role_address_limit
                await source_of(current).finalize(connection, current, limit)
            state = await job_progress.cancel_job(connection, job.key, from_states=allowed)
        else:
            state = await jobs.set_state(connection, job.key, from_states=allowed, to_state=wanted)
        if state is None:
            return await _require_state(connection, job, wanted)
        await change.record(
            **job.key._asdict(),
            request_correlation_id=correlation_id,
            logged={
                "action": job.action,
                "state": state.value,
                "correlation_id": job.correlation_id,
                "request_correlation_id": correlation_id,
            },
        )
        return state


async def _require_state(
    connection: asyncpg.Connection, job: jobs.Job, wanted: JobState
) -> JobState:
    """Return the state of a job that already is as wanted; raises StateConflict for any other."""
    current = await jobs.get_job(connection, job.id, account_id=job.account_id)
    assert current is not None
    state = current.state
    if state is wanted or (wanted is JobState.RUNNING and state in _ACTIVE_STATES):
        return state
    raise StateConflict(
        f"Job {job.id} is {state.value} and cannot be {_PARTICIPLES[wanted]}. Nothing was changed."
    )
