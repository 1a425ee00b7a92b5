"""What became of each address of a job."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from db import exports, jobs
from db.exports import Export
from producers.job_view import unprocessed_listing
from schemas.outcomes import Cause, Outcome
from schemas.statuses import Status
from web.auth import JobsReader
from web.exports import MEDIA_TYPES, Format, ListQuery, build_list_response
from web.problems import INVALID, NOT_FOUND, Problem, problem_responses
from web.routes.jobs import JobId, require_job
from web.state import State

router = APIRouter(tags=["results"])


class ResultFilter(StrEnum):
    """What can be listed."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    UNPROCESSED = "unprocessed"


class Result(BaseModel):
    """What became of one address in one job."""

    contact_id: Annotated[int | None, Field(description="Null in a job over addresses.")]
    field: Annotated[str, Field(description="email1 to email3; `address` in a job over addresses.")]
    address: Annotated[str | None, Field(description="Null where there is no such contact.")]
    outcome: Outcome
    reason: Annotated[str | None, Field(description="Why it was left as it was.")]
    from_status: Status | None
    to_status: Annotated[Status | None, Field(description="Where it was changed.")]
    cause: Annotated[
        Cause, Field(description="`propagated`: an opt-out of another address reached it.")
    ]
    source_address: Annotated[str | None, Field(description="The one that it spread from.")]
    decided_at: AwareDatetime
    error: Annotated[str | None, Field(description="Where Sluice itself failed on the contact.")]
    address_id: int | None
    source_address_id: int | None


class UnprocessedItem(BaseModel):
    """What a job did not come to: a contact, a line of an import's file, or a listed address."""

    contact_id: int | None = None
    line: int | None = None
    address: str | None = None


_NextCursor = Annotated[
    str | None,
    Field(
        description="The cursor of the next page, null after the last. A page may have fewer rows"
        " than were asked for, or none, and yet not be the last."
    ),
]


class ResultPage(BaseModel):
    """A page of results, in order of contact and field."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "contact_id": 17,
                            "field": "email1",
                            "address": "ann@example.com",
                            "outcome": "rejected",
                            "reason": "opted_out_by_recipient",
                            "from_status": "manual",
                            "to_status": None,
                            "cause": "direct",
                            "source_address": None,
                            "decided_at": "2025-03-01T08:00:00.300000+00:00",
                            "error": None,
                            "address_id": 33,
                            "source_address_id": None,
                        }
                    ],
                    "next": None,
                }
            ]
        }
    )

    results: list[Result] | list[UnprocessedItem]
    next: _NextCursor


class ImportRejection(BaseModel):
    """A row, or a cell, that was left out of the file that a job came with."""

    line: Annotated[int, Field(description="The line of the file on which the row begins.")]
    reason: str
    detail: Annotated[str, Field(description="A sentence for people.")]


class ImportRejectionPage(BaseModel):
    """A page of refusals, in the file's order; all of one line, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "import_rejections": [
                        {
                            "line": 12,
                            "reason": "no_address",
                            "detail": "The row has no usable address.",
                        }
                    ],
                    "next": None,
                }
            ]
        }
    )

    import_rejections: list[ImportRejection]
    next: _NextCursor


def _list_responses(model: type[BaseModel], example: str) -> dict[int | str, dict[str, Any]]:
    """Return how a list is answered, in each of its forms."""
    lines: dict[str, Any] = {"schema": {"type": "string"}, "example": example}
    streams = {MEDIA_TYPES[form]: lines for form in (Format.CSV, Format.NDJSON)}
    return {200: {"model": model, "content": streams}}


@router.get(
    "/v1/jobs/{job_id}/results",
    operation_id="list_results",
    summary="List what became of each address",
    response_class=Response,
    response_description="A page, or all of them in a stream.",
    responses={
        **_list_responses(ResultPage, ",".join(exports.Results.columns) + "\n"),
        **problem_responses(INVALID, NOT_FOUND),
    },
)
async def list_results(
    *,
    job_id: JobId,
    state: State,
    caller: JobsReader,
    query: ListQuery,
    outcome: Annotated[
        ResultFilter | None,
        Query(
            description="Only these. `unprocessed` lists what the job did not come to, or not yet:"
            " contacts, of an import the lines of its file, of a job over addresses those."
        ),
    ] = None,
    reason: Annotated[
        str | None,
        Query(max_length=63, pattern="^[a-z][a-z0-9_]*$", description="Only with this reason."),
    ] = None,
    cause: Annotated[
        Cause | None,
        Query(description="Only what the job selected, or only what an opt-out spread to."),
    ] = None,
) -> Response:
    """List the results of a job: pages in JSON, or all of them as CSV or NDJSON.

    A stream is read in pages too: it shows results of a running job that are added while it is
    sent.
    """
    job = await require_job(state, caller, job_id)
    listing = _build_listing(job, outcome, reason, cause)
    return await build_list_response(
        state, listing, query, member="results", name=f"job-{job_id}-results"
    )


def _build_listing(
    job: jobs.Job, outcome: ResultFilter | None, reason: str | None, cause: Cause | None
) -> Export:
    if outcome is not ResultFilter.UNPROCESSED:
        wanted = Outcome(outcome.value) if outcome else None
        return exports.Results(job.account_id, job.id, outcome=wanted, reason=reason, cause=cause)
    if reason is not None or cause is not None:
        raise Problem(
            INVALID,
            "What was not processed has neither a reason nor a cause; nothing was read. Leave these"
            " out, or ask for another outcome.",
        )
    return unprocessed_listing(job)


@router.get(
    "/v1/jobs/{job_id}/import-rejections",
    operation_id="list_import_rejections",
    summary="List what was left out of a file",
    response_class=Response,
    response_description="A page, or all of them in a stream.",
    responses={
        **_list_responses(ImportRejectionPage, "line,reason,detail\n"),
        **problem_responses(INVALID, NOT_FOUND),
    },
)
async def list_import_rejections(
    job_id: JobId, state: State, caller: JobsReader, query: ListQuery
) -> Response:
    """List what was left out of the file of an import or of a list of addresses, and why."""
    await require_job(state, caller, job_id)
    listing = exports.rejections(caller.account_id, job_id)
    return await build_list_response(
        state, listing, query, member="import_rejections", name=f"job-{job_id}-import-rejections"
    )
