"""Asking for jobs, and following them."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from db import jobs
from producers import control
from producers.fair_executor import off_loop
from producers.job_view import read_job
from producers.keys import Caller
from producers.recipient_events import refuse_key_of_an_act
from producers.submit import Submitted, submit
from schemas.errors import NotFound
from schemas.outcomes import JobState
from schemas.requests import MAX_ID, JobRequest
from web.auth import JobsReader, JobsWriter
from web.job_requests import JobBody
from web.job_responses import JobAnswer, JobPage, JobSummary
from web.number_params import WRITTEN_ID
from web.pagination import Cursor, Limit, cursor_of, place_of
from web.prefer_wait import COUNT_SECONDS, PreferredWait, wait_for_rest
from web.problems import (
    EVIDENCE_MISSING,
    INVALID,
    KEY_REUSED,
    MALFORMED,
    NO_ROOM,
    NOT_FOUND,
    STATE_CONFLICT,
    TOO_LARGE,
    UNSUPPORTED,
    answers,
)
from web.request_body import body_schema, is_large, json_body, media_type
from web.request_notes import note_job
from web.routes.job_uploads import FORM, form_schema, uploaded_job
from web.state import CorrelationId, Here, HereDep

router = APIRouter(tags=["jobs"])

JobId = Annotated[int, Path(description="The job's number.", examples=[7]), WRITTEN_ID]
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

_LONG_LIST = 5_000
"""Longer lists in bodies are stored one at a time for each account."""

_SUBMIT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": body_schema(JobBody)},
            FORM: {"schema": form_schema()},
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
        200: {"model": JobAnswer, "description": "An earlier request with this key made the job."},
        **answers(
            MALFORMED, UNSUPPORTED, TOO_LARGE, INVALID, EVIDENCE_MISSING, KEY_REUSED, NOT_FOUND
        ),
        **answers(NO_ROOM),
    },
    openapi_extra=_SUBMIT,
)
async def submit_job(
    *,
    request: Request,
    response: Response,
    here: HereDep,
    caller: JobsWriter,
    correlation_id: CorrelationId,
    seconds: PreferredWait,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Store a bulk action over a selection of contacts, for workers to do.

    A list of contacts that is too long for the body comes as a file beside it, in a form; several
    conditions narrow such a list too.

    With `"mode": "plan"` nothing is changed: the selection is frozen, `forecast` tells exactly what
    the job would do, and the job waits in the state `planned` for `apply_job`. The answer comes
    when that is counted, or after 20 seconds where `Prefer` does not say otherwise.

    Everything is checked first: nothing of a request that is refused is stored. The job is the
    account's that the key belongs to.
    """
    refuse_key_of_an_act(idempotency_key)

    def asked(body: JobBody) -> JobRequest:
        return body.request(caller, idempotency_key=idempotency_key, correlation_id=correlation_id)

    if media_type(request) == FORM:
        async with (
            uploaded_job(request, here, caller) as (body, upload),
            here.long_turns.one_of(caller.account_id),
        ):
            submitted = await submit(
                here.pool, here.settings, asked(body), upload=upload, actor=caller.actor
            )
    else:
        body = await json_body(request, caller, JobBody)
        large = is_large(await request.body())
        async with _turn_of(here, caller, body):
            submitted = await submit(
                here.pool,
                here.settings,
                await off_loop(caller.account, lambda: asked(body), where=large),
                is_large=large,
                actor=caller.actor,
            )
    if seconds is None:
        # Whoever wants a plan wants to see it.
        seconds = COUNT_SECONDS if body.mode == "plan" else 0
    return await _answer_submitted(here, caller, response, submitted, seconds)


def _turn_of(here: Here, caller: Caller, body: JobBody) -> AbstractAsyncContextManager[None]:
    """A turn for a long list, which takes a connection for a second or more."""
    listed = body.selection.contacts or body.selection.addresses or ()
    return here.list_turns.one_of(caller.account_id) if len(listed) > _LONG_LIST else nullcontext()


async def _answer_submitted(
    here: Here, caller: Caller, response: Response, submitted: Submitted, seconds: int
) -> JobAnswer:
    await wait_for_rest(here, caller, submitted.job_id, seconds, response=response)
    if not submitted.created:
        response.status_code = HTTPStatus.OK
    response.headers["Location"] = f"/v1/jobs/{submitted.job_id}"
    return await job_answer(here, caller, submitted.job_id)


@router.get(
    "/v1/jobs",
    operation_id="list_jobs",
    summary="List jobs",
    response_description="A page of the account's jobs.",
    responses=answers(INVALID),
)
async def list_jobs(
    *,
    here: HereDep,
    caller: JobsReader,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[
        list[JobState] | None, Query(description="Only jobs in this state; repeatable.")
    ] = None,
    action: Annotated[
        str | None,
        Query(max_length=41, pattern="^[a-z][a-z0-9_]*$", description="Only jobs of this action."),
    ] = None,
) -> JobPage:
    """The account's jobs, the newest first."""
    before = MAX_ID
    if cursor is not None:
        (before,) = place_of(cursor, int)
    async with here.pool.acquire() as connection:
        found, following = await jobs.jobs_page(
            connection,
            account_id=caller.account_id,
            before=before,
            most=limit,
            states=state or (),
            action=action,
        )
    return JobPage(
        jobs=[JobSummary.of_row(job) for job in found],
        next=None if following is None else cursor_of(following),
    )


@router.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="Show a job",
    response_description="The job as it stands.",
    responses=answers(INVALID, NOT_FOUND),
)
async def get_job(
    job_id: JobId, here: HereDep, caller: JobsReader, response: Response, seconds: PreferredWait
) -> JobAnswer:
    """What was asked for, where the job stands, and what became of the addresses."""
    if seconds:
        await require_job(here, caller, job_id)
        await wait_for_rest(here, caller, job_id, seconds, response=response)
    return await job_answer(here, caller, job_id)


@router.post(
    "/v1/jobs/{job_id}/pause",
    operation_id="pause_job",
    summary="Pause a job",
    response_description="The job, of which not one more address changes.",
    responses=answers(INVALID, NOT_FOUND, STATE_CONFLICT),
)
async def pause_job(
    job_id: JobId, here: HereDep, caller: JobsWriter, correlation_id: CorrelationId
) -> JobAnswer:
    """Stop the job where it is. Once this has answered, it changes not one more address.

    To pause a paused job changes nothing; a job that has ended cannot be paused.
    """
    return await _control(here, caller, job_id, control.pause, correlation_id)


@router.post(
    "/v1/jobs/{job_id}/resume",
    operation_id="resume_job",
    summary="Resume a job",
    response_description="The job, which goes on.",
    responses=answers(INVALID, NOT_FOUND, STATE_CONFLICT),
)
async def resume_job(
    job_id: JobId, here: HereDep, caller: JobsWriter, correlation_id: CorrelationId
) -> JobAnswer:
    """Let a paused job go on where it stopped; one that is at work is left so."""
    return await _control(here, caller, job_id, control.resume, correlation_id)


@router.post(
    "/v1/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="The job, which has ended.",
    responses=answers(INVALID, NOT_FOUND, STATE_CONFLICT),
)
async def cancel_job(
    job_id: JobId, here: HereDep, caller: JobsWriter, correlation_id: CorrelationId
) -> JobAnswer:
    """End the job. What it has changed stays changed; once this has answered, nothing more is.

    To cancel a cancelled job changes nothing.
    """
    return await _control(here, caller, job_id, control.cancel, correlation_id)


async def _control(
    here: Here,
    caller: Caller,
    job_id: int,
    change: Callable[..., Awaitable[JobState]],
    correlation_id: str,
) -> JobAnswer:
    await require_job(here, caller, job_id)
    await change(
        here.pool,
        here.settings,
        caller.account_id,
        job_id,
        actor=caller.actor,
        correlation_id=correlation_id,
    )
    return await job_answer(here, caller, job_id)


async def require_job(here: Here, caller: Caller, job_id: int) -> jobs.Job:
    """The caller's job; raises NotFound for another account's as if it were not there."""
    async with here.pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=caller.account_id)
    if job is None:
        raise _no_job(job_id)
    note_job(job_id)
    return job


async def job_answer(here: Here, caller: Caller, job_id: int) -> JobAnswer:
    """The caller's job as it stands; raises as `require_job` does."""
    try:
        answer = JobAnswer.of(await read_job(here.pool, job_id, account_id=caller.account_id))
    except NotFound:
        raise _no_job(job_id) from None
    note_job(job_id)
    return answer


def _no_job(job_id: int) -> NotFound:
    named = f"job {job_id}" if job_id else "such job"
    return NotFound(f"There is no {named}. GET /v1/jobs lists the jobs there are.")
