"""Applying a planned job, with the counts that one has seen."""

from collections.abc import Mapping
from datetime import UTC, datetime

import asyncpg

from actions.rules.forecast import COUNTS
from db import activity, jobs, planning
from producers.invalid_request import refuse_unstorable
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, Act, Actor
from schemas.errors import NotFound, StateConflict, WrongInput
from schemas.outcomes import ENDED, JobState
from workers.enqueue import announce_job

log = logs.get()

NEEDED = ("applied", "unchanged", "rejected", "further")
"""The counts that have to be given; `empty` follows from the others."""


async def apply_plan(
    pool: asyncpg.Pool,
    settings: Settings,
    *,
    account_id: int,
    job_id: int,
    expected: Mapping[str, int],
    tolerance: int,
    confirmed_by: str,
    actor: Actor = PYTHON,
    correlation_id: str | None = None,
) -> JobState:
    """Have a planned job counted once more by a worker, and run if no count differs from `expected`
    by more than `tolerance` addresses; otherwise it waits again, with the difference in
    `jobs.confirmation`.

    `confirmed_by` is who the caller says has seen them; the `actor`, who the caller is, is kept
    beside it. `correlation_id` is that of the request by which this is asked, if there is one.
    Gives the state that the job is in: to confirm once more what was confirmed changes nothing.
    Raises WrongInput, NotFound, and StateConflict for a job that is not planned.
    """
    refuse_unstorable("Who confirms", confirmed_by)
    counts = _checked(expected, tolerance)
    confirmation = {
        "expected": counts,
        "tolerance": tolerance,
        "by": confirmed_by,
        **actor.in_log(),
        "at": datetime.now(UTC).isoformat(),
    }
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=account_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
        async with connection.transaction():
            asked = await planning.ask_to_confirm(
                connection, account_id=account_id, job_id=job_id, confirmation=confirmation
            )
            if asked is None:
                return await _already(connection, job_id, counts, tolerance)
            await activity.note(
                connection,
                Act.PLAN_APPLIED,
                actor,
                account_id=account_id,
                job_id=job_id,
                correlation_id=correlation_id,
                detail={"expected": counts, "tolerance": tolerance},
            )
    log.info(
        events.PLAN_APPLIED,
        job=job_id,
        account=account_id,
        action=asked.action,
        correlation_id=asked.correlation_id,
        request=correlation_id,
        tolerance=tolerance,
        **actor.in_log(),
    )
    await announce_job(settings, job_id=job_id, action=asked.action)
    return JobState.PLANNING


def _checked(expected: Mapping[str, int], tolerance: int) -> dict[str, int]:
    missing = [name for name in NEEDED if name not in expected]
    unknown = [name for name in expected if name not in COUNTS]
    if missing or unknown:
        wrong = [f"{name} is missing" for name in missing]
        wrong += [f"there is no {name}" for name in unknown]
        raise WrongInput(
            f"Some counts are missing or unknown: {', '.join(wrong)}. Nothing was done. Give"
            f" {', '.join(NEEDED)} as the plan shows them."
        )
    if tolerance < 0 or any(count < 0 for count in expected.values()):
        raise WrongInput("Counts and tolerance must not be negative. Nothing was done.")
    return dict(expected)


async def _already(
    connection: asyncpg.Connection, job_id: int, counts: Mapping[str, int], tolerance: int
) -> JobState:
    """The state of a job that this was said yes to before; raises StateConflict for any other."""
    job = await jobs.get_job(connection, job_id)
    assert job is not None
    seen = job.confirmation
    if seen is not None and (seen["expected"], seen["tolerance"]) == (counts, tolerance):
        return job.state
    if not job.plan_first:
        raise StateConflict(
            f"Job {job_id} was not planned first. Only a planned job can be applied. Nothing was"
            " changed."
        )
    raise StateConflict(
        f"Job {job_id} is {job.state.value}. Only a planned job can be applied. Nothing was"
        " changed." + ("" if job.state in ENDED else " Look again when its state has changed.")
    )
