"""Saying yes to a plan."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from producers.invalid_request import require_storable_texts
from producers.plans import apply_plan
from schemas.outcomes import JobState
from schemas.requests import MAX_ID, ShortText
from web.auth import JobsWriter
from web.job_responses import JobResponse
from web.prefer_wait import PLAN_WAIT_SECONDS, PreferredWait, wait_until_idle
from web.problems import (
    INVALID,
    MALFORMED,
    NOT_FOUND,
    PLAN_DRIFTED,
    STATE_CONFLICT,
    Problem,
    problem_responses,
)
from web.request_body import body_schema, read_json_body
from web.routes.jobs import JobId, read_job_response, require_job
from web.state import CorrelationId, State

router = APIRouter(tags=["jobs"])

_Count = Annotated[int, Field(ge=0, le=MAX_ID)]


class ExpectedCounts(BaseModel):
    """The counts that the person saw, as `forecast` of the job has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    applied: _Count
    unchanged: _Count
    rejected: _Count
    propagated: _Count
    empty: _Count | None = None


class ApplyRequest(BaseModel):
    """A yes to what a planned job would do."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "expected": {"applied": 120, "unchanged": 3, "rejected": 7, "propagated": 14},
                    "tolerance": 5,
                }
            ]
        },
    )

    expected: ExpectedCounts
    tolerance: Annotated[
        _Count, Field(description="By how many addresses each count may differ by now.")
    ] = 0
    confirmed_by: Annotated[
        ShortText | None, Field(description="Who says yes; the key's name where nobody is named.")
    ] = None


_BODY_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": body_schema(ApplyRequest)}},
    }
}


@router.post(
    "/v1/jobs/{job_id}/apply",
    operation_id="apply_job",
    summary="Run a planned job",
    status_code=HTTPStatus.ACCEPTED,
    response_description="The counts still hold, and workers do the job; or, where it is still"
    " `planning`, they are being counted.",
    responses=problem_responses(MALFORMED, INVALID, NOT_FOUND, STATE_CONFLICT, PLAN_DRIFTED),
    openapi_extra=_BODY_OPENAPI,
)
async def apply_job(
    *,
    job_id: JobId,
    request: Request,
    response: Response,
    state: State,
    caller: JobsWriter,
    correlation_id: CorrelationId,
    seconds: PreferredWait,
) -> JobResponse:
    """Forecast the planned job again, and run it unless a count has drifted beyond the tolerance.

    Otherwise it stays `planned` and changes nothing: the response is the problem `plan-drifted`,
    with the present counts. The response comes when they are counted, or after 20 seconds unless
    `Prefer` says otherwise. For a job that is still `planning` then, `state` and
    `confirmation.drift` tell later how that ended. Repeating a confirmation changes nothing.
    """
    body = await read_json_body(request, caller, ApplyRequest)
    require_storable_texts("The request", body)
    await require_job(state, caller, job_id)
    await apply_plan(
        state.pool,
        state.settings,
        account_id=caller.account_id,
        job_id=job_id,
        expected=body.expected.model_dump(exclude_none=True),
        tolerance=body.tolerance,
        confirmed_by=body.confirmed_by or caller.key_name,
        actor=caller.actor,
        correlation_id=correlation_id,
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
            PLAN_DRIFTED,
            f"The counts of job {job_id} have changed since they were seen: {changes}, and"
            f" {body.tolerance:,} were allowed. Nothing was done. Look at the present counts, and"
            " apply the job with those, or cancel it.",
            drift=drift,
            forecast=answer.forecast,
        )
    response.headers["Location"] = f"/v1/jobs/{job_id}"
    return answer
