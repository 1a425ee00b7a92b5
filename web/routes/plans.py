"""Confirmations of planned jobs."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from producers.invalid_request import require_storable_texts
from producers.job_view import JobView
from producers.plans import apply_plan
from schemas.examples import get_examples
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from schemas.requests import MAX_ID, ShortText
from web import problems
from web.auth import JobsWriter
from web.prefer_wait import PLAN_WAIT_SECONDS, PreferredWait, wait_until_idle
from web.problems import Problem, problem_responses
from web.request_body import body_openapi, read_json_body
from web.request_notes import get_notes
from web.routes.jobs import JobId, read_job_response, require_job
from web.state import State

router = APIRouter(tags=["jobs"])

_Count = Annotated[int, Field(strict=True, ge=0, le=MAX_ID)]


class ExpectedCounts(BaseModel):
    """The counts that were seen, as in the job's `forecast`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    applied: _Count
    unchanged: _Count
    rejected: _Count
    propagated: _Count
    empty: _Count | None = None


class ApplyRequest(BaseModel):
    """The confirmation of a planned job."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra=get_examples("ApplyRequest")
    )

    expected: ExpectedCounts
    tolerance: Annotated[_Count, Field(description="By how much each count may have changed.")] = 0
    confirmed_by: Annotated[
        ShortText | None, Field(description="Who confirms; by default the key's name.")
    ] = None


@router.post(
    "/v1/jobs/{job_id}/apply",
    summary="Run a planned job",
    status_code=HTTPStatus.ACCEPTED,
    response_description="The counts hold, and workers run the job. If it is still `planning`, they"
    " are being counted.",
    responses=problem_responses(problems.NOT_FOUND, problems.STATE_CONFLICT, problems.PLAN_DRIFTED),
    openapi_extra=body_openapi(ApplyRequest),
)
async def apply_job(
    *,
    job_id: JobId,
    request: Request,
    response: Response,
    state: State,
    caller: JobsWriter,
    seconds: PreferredWait,
) -> JobView:
    """Count again what the planned job would do, and run it if every count is within `tolerance`.

    Otherwise the job stays `planned` and changes nothing: the response is the problem
    `plan-drifted` with the present counts. The response comes when they are counted, or after 20
    seconds, or as `Prefer` says. A job that is still `planning` tells the outcome later, in `state`
    and `confirmation.drift`. Repeating a confirmation changes nothing.
    """
    body = await read_json_body(request, caller, ApplyRequest)
    require_storable_texts("The request", body)
    await require_job(state, caller, job_id)
    await apply_plan(
        state.pool,
        state.settings,
        JobKey(caller.account_id, job_id),
        expected=body.expected.model_dump(exclude_none=True),
        tolerance=body.tolerance,
        confirmed_by=body.confirmed_by or caller.key_name,
        actor=caller.actor,
        correlation_id=get_notes().correlation_id,
    )
    seconds = PLAN_WAIT_SECONDS if seconds is None else seconds
    await wait_until_idle(
        state, caller, job_id, seconds, response=response, busy={JobState.PLANNING}
    )
    answer = await read_job_response(state, caller, job_id)
    drift = (answer.confirmation or {}).get("drift")
    if answer.state is JobState.PLANNED and drift:
        changes = ", ".join(f"{name} by {by:+,}" for name, by in drift.items())
        raise Problem(
            problems.PLAN_DRIFTED,
            f"The counts of job {job_id} have changed: {changes}. The tolerance is"
            f" {body.tolerance:,}. Nothing was done. Apply the job with the present counts, or"
            " cancel it.",
            drift=drift,
            forecast=answer.forecast,
        )
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    return answer
