"""Apply a planned job, by the counts that the actor saw."""

from collections.abc import Mapping
from datetime import UTC, datetime

import asyncpg

from actions.rules.forecast import FORECAST_COUNTS
from db import jobs, planning
from producers.invalid_request import require_storable
from producers.job_view import require_job
from producers.recorded_changes import recorded_change
from runtime import events
from runtime.settings import Settings
from schemas.actors import PYTHON, Actor
from schemas.errors import InvalidRequest, StateConflict
from schemas.job_key import JobKey
from schemas.outcomes import FINAL_STATES, JobState
from workers.enqueue import enqueue_job

REQUIRED_COUNTS = ("applied", "unchanged", "rejected", "propagated")
"""The counts that a confirmation needs; `empty` follows from the others."""


async def apply_plan(
    pool: asyncpg.Pool,
    settings: Settings,
    key: JobKey,
    *,
    expected: Mapping[str, int],
    tolerance: int,
    confirmed_by: str,
    actor: Actor = PYTHON,
    correlation_id: str | None = None,
) -> JobState:
    """Confirm a planned job and return its state; a repeated confirmation changes nothing.

    A worker counts the job once more. It runs if no count differs from `expected` by more than
    `tolerance` addresses; otherwise it waits again, with the drift in `jobs.confirmation`.
    The `actor` says that `confirmed_by` saw the counts; both are stored. `correlation_id` is that
    of the actor's request, if there is one. Raises InvalidRequest, NotFound, and StateConflict for
    a job that is not planned.
    """
    require_storable("The name of the person who confirms", confirmed_by)
    counts = _validate_counts(expected, tolerance)
    confirmation = {
        "expected": counts,
        "tolerance": tolerance,
        "by": confirmed_by,
        **actor.log_keys(),
        "at": datetime.now(UTC).isoformat(),
    }
    async with recorded_change(pool, events.PLAN_APPLIED, actor) as change:
        await require_job(change.connection, key.job_id, account_id=key.account_id)
        job = await planning.request_confirmation(change.connection, key, confirmation=confirmation)
        if job is None:
            return await _confirmed_state(change.connection, key.job_id, counts, tolerance)
        await change.record(
            **key._asdict(),
            request_correlation_id=correlation_id,
            detail={"expected": counts, "tolerance": tolerance},
            logged={
                "action": job.action,
                "correlation_id": job.correlation_id,
                "request_correlation_id": correlation_id,
                "tolerance": tolerance,
            },
        )
    await enqueue_job(settings, key, action=job.action)
    return JobState.PLANNING


def _validate_counts(expected: Mapping[str, int], tolerance: int) -> dict[str, int]:
    wrong = [f"{name} is missing" for name in REQUIRED_COUNTS if name not in expected]
    wrong += [f"{name} is unknown" for name in expected if name not in FORECAST_COUNTS]
    if wrong:
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
    """Return the state of a job with this confirmation; raises StateConflict for any other."""
    job = await jobs.get_job(connection, job_id)
    assert job is not None
    seen = job.confirmation
    if seen is not None and (seen["expected"], seen["tolerance"]) == (counts, tolerance):
        return job.state
    why = f"is {job.state.value}" if job.plan_first else "was not planned first"
    may_change = job.plan_first and job.state not in FINAL_STATES
    raise StateConflict(
        f"Job {job_id} {why}. Only a planned job can be applied. Nothing was changed."
        + (" Look again when its state has changed." if may_change else "")
    )
