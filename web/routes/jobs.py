"""Jobs: submitting, reading and controlling them."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field

from db import jobs
from producers import control
from producers.fair_executor import run_off_loop
from producers.job_view import JobSummary, JobView, read_job
from producers.keys import Caller
from producers.recipient_events import require_unreserved_key
from producers.submit import submit
from schemas.errors import NotFound
from schemas.outcomes import JobState
from schemas.requests import MAX_ID
from web import problems
from web.auth import JobsReader, JobsWriter
from web.job_requests import JobCreate
from web.job_uploads import read_uploaded_job, upload_form_schema
from web.middleware.body_limit import FORM_MEDIA_TYPE, get_media_type
from web.pagination import Cursor, Limit, decode_id_cursor, encode_cursor
from web.params import PATH_ID
from web.prefer_wait import PLAN_WAIT_SECONDS, PreferredWait, wait_until_idle
from web.problems import problem_responses
from web.request_body import body_openapi, is_large, read_json_body
from web.request_notes import get_notes, note_job
from web.state import AppState, State

router = APIRouter(tags=["jobs"])

JobId = Annotated[int, Path(description="The job's number.", examples=[7]), PATH_ID]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="Your own name for the request. With it, it is safe to send the request again"
        " if no response came: a second one makes no second job. A different request with the same"
        " key is rejected.",
        examples=["spring-1"],
    ),
]

_LONG_LIST_ITEMS = 5_000
"""Longer lists in bodies are stored one at a time per account."""


class JobPage(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobSummary]
    next: Annotated[
        str | None,
        Field(
            description="The cursor of the next page; null after the last. With `state` or `action`"
            f" a page looks through {jobs.MAX_SCANNED_JOBS:,} jobs, so it may be empty and not be"
            " the last."
        ),
    ]


@router.post(
    "/v1/jobs",
    summary="Submit a job",
    status_code=HTTPStatus.ACCEPTED,
    response_description="The job is stored, and workers run it.",
    responses={
        200: {
            "model": JobView,
            "description": "An earlier request with this idempotency key submitted the job.",
        },
        **problem_responses(
            problems.EVIDENCE_MISSING,
            problems.IDEMPOTENCY_KEY_REUSED,
            problems.NOT_FOUND,
            problems.INSUFFICIENT_STORAGE,
        ),
    },
    openapi_extra=body_openapi(JobCreate, **{FORM_MEDIA_TYPE: upload_form_schema()}),
)
async def submit_job(
    *,
    request: Request,
    response: Response,
    state: State,
    caller: JobsWriter,
    seconds: PreferredWait,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Submit a bulk action over a selection of contacts, or over listed addresses.

    A list that is too long for the body is sent as a file, in a form with the job. Other conditions
    narrow a list of contacts too; addresses stand alone.

    With `"mode": "plan"` nothing is changed: the selection is frozen, `forecast` tells exactly what
    the job would do, and the job waits in the state `planned` for `apply_job`. The response comes
    when the forecast is counted, or after 20 seconds, or as `Prefer` says.

    The whole request is checked first. Nothing of a rejected request is stored.
    """
    require_unreserved_key(idempotency_key)
    build_request = partial(
        JobCreate.to_request,
        caller=caller,
        idempotency_key=idempotency_key,
        correlation_id=get_notes().correlation_id,
    )
    store = partial(submit, state.pool, state.settings, actor=caller.actor)
    if get_media_type(request.scope) == FORM_MEDIA_TYPE:
        async with (
            read_uploaded_job(request, state, caller) as (body, upload),
            state.long_request_slots.hold(caller.account_id),
        ):
            submitted = await store(build_request(body), upload=upload)
    else:
        body = await read_json_body(request, caller, JobCreate)
        large = is_large(await request.body())
        async with _hold_list_slot(state, caller, body):
            job_request = await run_off_loop(
                caller.account, lambda: build_request(body), is_long=large
            )
            submitted = await store(job_request, is_large=large)
    if seconds is None:
        seconds = PLAN_WAIT_SECONDS if body.mode == "plan" else 0
    await wait_until_idle(state, caller, submitted.job_id, seconds, response=response)
    if not submitted.created:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/v1/jobs/{submitted.job_id}"
    return await read_job_response(state, caller, submitted.job_id)


def _hold_list_slot(
    state: AppState, caller: Caller, body: JobCreate
) -> AbstractAsyncContextManager[None]:
    """Hold a slot for a long list, which takes a connection for a second or more."""
    listed = body.selection.contacts or body.selection.addresses or ()
    if len(listed) > _LONG_LIST_ITEMS:
        return state.long_list_slots.hold(caller.account_id)
    return nullcontext()


@router.get(
    "/v1/jobs",
    summary="List jobs",
    response_description="A page of the account's jobs.",
)
async def list_jobs(
    *,
    state: State,
    caller: JobsReader,
    limit: Limit = 100,
    cursor: Cursor = None,
    states: Annotated[
        list[JobState] | None,
        Query(alias="state", description="Only jobs in this state. Repeat it for several."),
    ] = None,
    action: Annotated[
        str | None,
        Query(max_length=41, pattern="^[a-z][a-z0-9_]*$", description="Only jobs of this action."),
    ] = None,
) -> JobPage:
    """List the account's jobs, the newest first."""
    async with state.pool.acquire() as connection:
        found, following = await jobs.list_jobs_page(
            connection,
            account_id=caller.account_id,
            before=decode_id_cursor(cursor, first=MAX_ID),
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
    summary="Show a job",
    response_description="The job.",
    responses=problem_responses(problems.NOT_FOUND),
)
async def get_job(
    job_id: JobId, state: State, caller: JobsReader, response: Response, seconds: PreferredWait
) -> JobView:
    """Show what was requested, the state of the job, and its counts by outcome."""
    if seconds:
        await require_job(state, caller, job_id)
        await wait_until_idle(state, caller, job_id, seconds, response=response)
    return await read_job_response(state, caller, job_id)


def _add_control(
    name: str, change: Callable[..., Awaitable[JobState]], response: str, description: str
) -> None:
    """Add the route `/v1/jobs/{job_id}/NAME`, which changes the state of a job."""

    @router.post(
        f"/v1/jobs/{{job_id}}/{name}",
        name=f"{name}_job",
        summary=f"{name.capitalize()} a job",
        description=description,
        response_description=response,
        responses=problem_responses(problems.NOT_FOUND, problems.STATE_CONFLICT),
    )
    async def change_state(job_id: JobId, state: State, caller: JobsWriter) -> JobView:
        await require_job(state, caller, job_id)
        await change(
            state.pool,
            state.settings,
            caller.account_id,
            job_id,
            actor=caller.actor,
            correlation_id=get_notes().correlation_id,
        )
        return await read_job_response(state, caller, job_id)


_add_control(
    "pause",
    control.pause,
    "The paused job, which changes no more addresses.",
    "Pause the job. After the response it changes no more addresses.\n\nPausing a paused job"
    " changes nothing. A job that has ended cannot be paused.",
)
_add_control(
    "resume",
    control.resume,
    "The job, which continues.",
    "Continue a paused job where it stopped. Resuming a running job changes nothing.",
)
_add_control(
    "cancel",
    control.cancel,
    "The cancelled job.",
    "End the job. What it has changed stays changed. After the response it changes nothing more."
    "\n\nCancelling a cancelled job changes nothing.",
)


async def require_job(state: AppState, caller: Caller, job_id: int) -> jobs.Job:
    """Return the caller's job; raise NotFound for another account's, too."""
    async with state.pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=caller.account_id)
    if job is None:
        raise _job_not_found(job_id)
    note_job(job_id)
    return job


async def read_job_response(state: AppState, caller: Caller, job_id: int) -> JobView:
    """Return the caller's job with its progress; raise NotFound like `require_job`."""
    try:
        view = await read_job(state.pool, job_id, account_id=caller.account_id)
    except NotFound:
        raise _job_not_found(job_id) from None
    note_job(job_id)
    return view


def _job_not_found(job_id: int) -> NotFound:
    named = f"Job {job_id}" if job_id else "This job"
    return NotFound(f"{named} does not exist. GET /v1/jobs lists the account's jobs.")
