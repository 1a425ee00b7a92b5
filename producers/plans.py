"""Applying a planned job, with the counts that one has seen."""

from collections.abc import Mapping
from datetime import UTC, datetime

import asyncpg

from actions.rules.forecast import FORECAST_COUNTS
from db import activity, jobs, planning
from producers.invalid_request import require_storable
from runtime import events, logs
from runtime.settings import Settings
from schemas.actors import PYTHON, ActivityEvent, Actor
from schemas.errors import InvalidRequest, NotFound, StateConflict
from schemas.outcomes import FINAL_STATES, JobState
from workers.enqueue import enqueue_job

log = logs.get_logger()

REQUIRED_COUNTS = ("applied", "unchanged", "rejected", "propagated")
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
    """Have a worker forecast a planned job again, and run it unless it has drifted.

    It runs if no count differs from `expected` by more than `tolerance` addresses. Otherwise it
    waits again, with the drift in `jobs.confirmation`. `confirmed_by` is who the actor says has
    seen the counts; the `actor` is stored besides. `correlation_id` is that of the request that
    asked for this.

    Return the job's state: repeating a confirmation changes nothing. Raises InvalidRequest,
    NotFound, and StateConflict for a job that is not planned.
    """
    require_storable("Who confirms", confirmed_by)
    counts = _validate_counts(expected, tolerance)
    confirmation = {
        "expected": counts,
        "tolerance": tolerance,
        "by": confirmed_by,
        **actor.log_keys(),
        "at": datetime.now(UTC).isoformat(),
    }
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=account_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
        async with connection.transaction():
            asked = await planning.request_confirmation(
                connection, account_id=account_id, job_id=job_id, confirmation=confirmation
            )
            if asked is None:
                return await _confirmed_state(connection, job_id, counts, tolerance)
            await activity.record(
                connection,
                ActivityEvent.PLAN_APPLIED,
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
        request_correlation_id=correlation_id,
        tolerance=tolerance,
        **actor.log_keys(),
    )
    await enqueue_job(settings, account_id=account_id, job_id=job_id, action=asked.action)
    return JobState.PLANNING


def _validate_counts(expected: Mapping[str, int], tolerance: int) -> dict[str, int]:
    missing = [name for name in REQUIRED_COUNTS if name not in expected]
    unknown = [name for name in expected if name not in FORECAST_COUNTS]
    if missing or unknown:
        wrong = [f"{name} is missing" for name in missing]
        wrong += [f"there is no {name}" for name in unknown]
        raise InvalidRequest(
            f"Some counts are missing or unknown: {', '.join(wrong)}. Nothing was done. Give"
            f" {', '.join(REQUIRED_COUNTS)} as the plan shows them."
        )
    if tolerance < 0 or any(count < 0 for count in expected.values()):
        raise InvalidRequest("Counts and tolerance must not be negative. Nothing was done.")
    return dict(expected)


async def _confirmed_state(
    connection: asyncpg.Connection, job_id: int, counts: Mapping[str, int], tolerance: int
) -> JobState:
    """Return the state of a job whose plan was applied by the same confirmation before.

    Raises StateConflict for any other job.
    """
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
        " changed."
        + ("" if job.state in FINAL_STATES else " Look again when its state has changed.")
    )
