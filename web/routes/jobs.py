"""Asking for jobs, and following them."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from db import jobs
from producers import control
from producers.fair_executor import run_off_loop
from producers.job_view import read_job
from producers.keys import Caller
from producers.recipient_events import require_unreserved_key
from producers.submit import JobSubmission, submit
from schemas.errors import NotFound
from schemas.outcomes import JobState
from schemas.requests import MAX_ID, JobRequest
from web.auth import JobsReader, JobsWriter
from web.job_requests import JobCreate
from web.job_responses import JobPage, JobResponse, JobSummary
from web.number_params import PATH_ID
from web.pagination import Cursor, Limit, decode_cursor, encode_cursor
from web.prefer_wait import PLAN_WAIT_SECONDS, PreferredWait, wait_until_idle
from web.problems import (
    BODY_TOO_LARGE,
    EVIDENCE_MISSING,
    IDEMPOTENCY_KEY_REUSED,
    INSUFFICIENT_STORAGE,
    INVALID,
    MALFORMED,
    NOT_FOUND,
    STATE_CONFLICT,
    UNSUPPORTED_MEDIA_TYPE,
    problem_responses,
)
from web.request_body import body_schema, get_media_type, is_large, read_json_body
from web.request_notes import note_job
from web.routes.job_uploads import FORM_MEDIA_TYPE, read_uploaded_job, upload_form_schema
from web.state import AppState, CorrelationId, State

router = APIRouter(tags=["jobs"])

JobId = Annotated[int, Path(description="The job's number.", examples=[7]), PATH_ID]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="Of the caller's making. A second request with the same key makes no second"
        " job; one that asks for something else is refused. With it, it is safe to send a request"
        " again when no answer came.",
        examples=["spring-1"],
    ),
]

_LONG_LIST_ITEMS = 5_000
"""Longer lists in bodies are stored one at a time for each account."""

_SUBMIT_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": body_schema(JobCreate)},
            FORM_MEDIA_TYPE: {"schema": upload_form_schema()},
        },
    }
}


@router.post(
    "/v1/jobs",
    operation_id="submit_job",
    summary="Ask for a job",
    status_code=HTTPStatus.ACCEPTED,
    response_description="The job is stored; workers do it.",
    responses={
        200: {
            "model": JobResponse,
            "description": "An earlier request with this key made the job.",
        },
        **problem_responses(
            MALFORMED,
            UNSUPPORTED_MEDIA_TYPE,
            BODY_TOO_LARGE,
            INVALID,
            EVIDENCE_MISSING,
            IDEMPOTENCY_KEY_REUSED,
            NOT_FOUND,
        ),
        **problem_responses(INSUFFICIENT_STORAGE),
    },
    openapi_extra=_SUBMIT_OPENAPI,
)
async def submit_job(
    *,
    request: Request,
    response: Response,
    state: State,
    caller: JobsWriter,
    correlation_id: CorrelationId,
    seconds: PreferredWait,
    idempotency_key: IdempotencyKey = None,
) -> JobResponse:
    """Store a bulk action over a selection of contacts, for workers to do.

    A list of contacts that is too long for the body comes as a file with it, in a form; several
    conditions narrow such a list too.

    With `"mode": "plan"` nothing is changed: the selection is frozen, `forecast` says exactly what
    the job would do, and the job waits in the state `planned` for `apply_job`. The response comes
    when that is counted, or after 20 seconds unless `Prefer` says otherwise.

    Everything is checked first: nothing of a refused request is stored. The job belongs to the
    key's account.
    """
    require_unreserved_key(idempotency_key)

    def build_request(body: JobCreate) -> JobRequest:
        return body.to_request(
            caller, idempotency_key=idempotency_key, correlation_id=correlation_id
        )

    if get_media_type(request) == FORM_MEDIA_TYPE:
        async with (
            read_uploaded_job(request, state, caller) as (body, upload),
            state.long_request_slots.hold(caller.account_id),
        ):
            submitted = await submit(
                state.pool, state.settings, build_request(body), upload=upload, actor=caller.actor
            )
    else:
        body = await read_json_body(request, caller, JobCreate)
        large = is_large(await request.body())
        async with _hold_list_slot(state, caller, body):
            submitted = await submit(
                state.pool,
                state.settings,
                await run_off_loop(caller.account, lambda: build_request(body), is_long=large),
                is_large=large,
                actor=caller.actor,
            )
    if seconds is None:
        # Whoever wants a plan wants to see it.
        seconds = PLAN_WAIT_SECONDS if body.mode == "plan" else 0
    return await _build_submit_response(state, caller, response, submitted, seconds)


def _hold_list_slot(
    state: AppState, caller: Caller, body: JobCreate
) -> AbstractAsyncContextManager[None]:
    """Hold a slot for a long list, which takes a connection for a second or more."""
    listed = body.selection.contacts or body.selection.addresses or ()
    return (
        state.long_list_slots.hold(caller.account_id)
        if len(listed) > _LONG_LIST_ITEMS
        else nullcontext()
    )


async def _build_submit_response(
    state: AppState, caller: Caller, response: Response, submitted: JobSubmission, seconds: int
) -> JobResponse:
    await wait_until_idle(state, caller, submitted.job_id, seconds, response=response)
    if not submitted.created:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/v1/jobs/{submitted.job_id}"
    return await read_job_response(state, caller, submitted.job_id)


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="List jobs",
    response_description="A page of the account's jobs.",
    responses=problem_responses(INVALID),
)
async def list_jobs(
    *,
    state: State,
    caller: JobsReader,
    limit: Limit = 100,
    cursor: Cursor = None,
    states: Annotated[
        list[JobState] | None,
        Query(alias="state", description="Only jobs in this state; repeatable."),
    ] = None,
    action: Annotated[
        str | None,
        Query(max_length=41, pattern="^[a-z][a-z0-9_]*$", description="Only jobs of this action."),
    ] = None,
) -> JobPage:
    """List the account's jobs, newest first."""
    before = MAX_ID
    if cursor is not None:
        (before,) = decode_cursor(cursor, int)
    async with state.pool.acquire() as connection:
        found, following = await jobs.list_jobs_page(
            connection,
            account_id=caller.account_id,
            before=before,
            limit=limit,
            states=states or (),
            action=action,
        )
    return JobPage(
        jobs=[JobSummary.from_row(job) for job in found],
        next=None if following is None else encode_cursor(following),
    )


@router.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="Show a job",
    response_description="The job as it stands.",
    responses=problem_responses(INVALID, NOT_FOUND),
)
async def get_job(
    job_id: JobId, state: State, caller: JobsReader, response: Response, seconds: PreferredWait
) -> JobResponse:
    """Return the request, the state of the job, and the outcome of its addresses."""
    if seconds:
        await require_job(state, caller, job_id)
        await wait_until_idle(state, caller, job_id, seconds, response=response)
    return await read_job_response(state, caller, job_id)


@router.post(
    "/v1/jobs/{job_id}/pause",
    operation_id="pause_job",
    summary="Pause a job",
    response_description="The job, of which not one more address changes.",
    responses=problem_responses(INVALID, NOT_FOUND, STATE_CONFLICT),
)
async def pause_job(
    job_id: JobId, state: State, caller: JobsWriter, correlation_id: CorrelationId
) -> JobResponse:
    """Stop the job where it is. Once this has answered, it changes not one more address.

    To pause a paused job changes nothing; a job that has ended cannot be paused.
    """
    return await _change_state(state, caller, job_id, control.pause, correlation_id)


@router.post(
    "/v1/jobs/{job_id}/resume",
    operation_id="resume_job",
    summary="Resume a job",
    response_description="The job, which goes on.",
    responses=problem_responses(INVALID, NOT_FOUND, STATE_CONFLICT),
)
async def resume_job(
    job_id: JobId, state: State, caller: JobsWriter, correlation_id: CorrelationId
) -> JobResponse:
    """Let a paused job go on where it stopped; one that is at work is left so."""
    return await _change_state(state, caller, job_id, control.resume, correlation_id)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="The job, which has ended.",
    responses=problem_responses(INVALID, NOT_FOUND, STATE_CONFLICT),
)
async def cancel_job(
    job_id: JobId, state: State, caller: JobsWriter, correlation_id: CorrelationId
) -> JobResponse:
    """End the job. What it has changed stays changed; once this has answered, nothing more is.

    To cancel a cancelled job changes nothing.
    """
    return await _change_state(state, caller, job_id, control.cancel, correlation_id)


async def _change_state(
    state: AppState,
    caller: Caller,
    job_id: int,
    change: Callable[..., Awaitable[JobState]],
    correlation_id: str,
) -> JobResponse:
    await require_job(state, caller, job_id)
    await change(
        state.pool,
        state.settings,
        caller.account_id,
        job_id,
        actor=caller.actor,
        correlation_id=correlation_id,
    )
    return await read_job_response(state, caller, job_id)


async def require_job(state: AppState, caller: Caller, job_id: int) -> jobs.Job:
    """Return the caller's job; raises NotFound if it does not exist or is another account's."""
    async with state.pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=caller.account_id)
    if job is None:
        raise _job_not_found(job_id)
    note_job(job_id)
    return job


async def read_job_response(state: AppState, caller: Caller, job_id: int) -> JobResponse:
    """Return the caller's job as it stands; raises as `require_job` does."""
    try:
        answer = JobResponse.from_view(
            await read_job(state.pool, job_id, account_id=caller.account_id)
        )
    except NotFound:
        raise _job_not_found(job_id) from None
    note_job(job_id)
    return answer


def _job_not_found(job_id: int) -> NotFound:
    named = f"job {job_id}" if job_id else "such job"
    return NotFound(f"There is no {named}. GET /v1/jobs lists the jobs there are.")
