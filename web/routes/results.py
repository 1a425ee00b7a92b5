"""The results and import rejections of a job."""

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from db import exports, jobs
from db.exports import Export
from producers.job_view import export_unprocessed
from schemas.examples import get_examples
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome
from schemas.statuses import Status
from web.auth import JobsReader
from web.exports import MEDIA_TYPES, Format, ListQuery, build_list_response
from web.problems import INVALID, NOT_FOUND, Problem, problem_responses
from web.routes.jobs import JobId, require_job
from web.state import State

router = APIRouter(tags=["results"])


class ResultFilter(StrEnum):
    """Which results to list."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    UNPROCESSED = "unprocessed"


class Result(BaseModel):
    """What a job did to one address."""

    contact_id: Annotated[int | None, Field(description="Null if the job listed addresses.")]
    field: Annotated[
        str, Field(description="email1 to email3, or `address` if the job listed addresses.")
    ]
    address: Annotated[str | None, Field(description="Null if the contact does not exist.")]
    outcome: Outcome
    reason: Annotated[str | None, Field(description="Why it was not changed.")]
    from_status: Status | None
    to_status: Annotated[Status | None, Field(description="Null if it was not changed.")]
    cause: Annotated[
        Cause, Field(description="`propagated` if the opt-out was propagated from a sibling.")
    ]
    source_address: Annotated[
        str | None, Field(description="The address that it was propagated from.")
    ]
    decided_at: AwareDatetime
    error: Annotated[str | None, Field(description="The error, if Sluice failed on the contact.")]
    address_id: int | None
    source_address_id: int | None


class UnprocessedItem(BaseModel):
    """An item that was not processed: a contact, a line of a file, or a listed address."""

    contact_id: int | None = None
    line: int | None = None
    address: str | None = None


_NextCursor = Annotated[
    str | None,
    Field(
        description="The cursor of the next page, null after the last. A page may have fewer rows"
        " than `limit`, or none, without being the last."
    ),
]


class ResultPage(BaseModel):
    """A page of results, in order of contact and field."""

    model_config = ConfigDict(json_schema_extra=get_examples("ResultPage"))

    results: list[Result] | list[UnprocessedItem]
    next: _NextCursor


class ImportRejection(BaseModel):
    """A row or a cell that was left out of the job's file."""

    line: Annotated[int, Field(description="The line of the file on which the row begins.")]
    reason: str
    detail: Annotated[str, Field(description="The reason in words.")]


class ImportRejectionPage(BaseModel):
    """A page of import rejections, in the order of the file. A page never splits a line's."""

    model_config = ConfigDict(json_schema_extra=get_examples("ImportRejectionPage"))

    import_rejections: list[ImportRejection]
    next: _NextCursor


def _list_responses(model: type[BaseModel], example: str) -> dict[int | str, dict[str, Any]]:
    """Describe the responses of a job's list, in each of its formats."""
    lines: dict[str, Any] = {"schema": {"type": "string"}, "example": example}
    streams = {MEDIA_TYPES[form]: lines for form in (Format.CSV, Format.NDJSON)}
    return {200: {"model": model, "content": streams}, **problem_responses(NOT_FOUND)}


@router.get(
    "/v1/jobs/{job_id}/results",
    summary="List the result of each address",
    response_class=Response,
    response_description="A page, or all rows in a stream.",
    responses=_list_responses(ResultPage, ",".join(exports.CSV_COLUMNS) + "\n"),
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
            description="Only this outcome. `unprocessed` lists what the job has not processed:"
            " contacts, lines of an import's file, or listed addresses."
        ),
    ] = None,
    reason: Annotated[
        str | None,
        Query(max_length=63, pattern="^[a-z][a-z0-9_]*$", description="Only this reason."),
    ] = None,
    cause: Annotated[
        Cause | None,
        Query(description="Only what the job selected, or only what was propagated."),
    ] = None,
) -> Response:
    """List the results of a job: pages in JSON, or all of them as CSV or NDJSON.

    A stream of a running job includes results that are stored while it is sent.
    """
    job = await require_job(state, caller, job_id)
    export = _choose_export(job, outcome, reason, cause)
    return await build_list_response(
        state, export, query, member="results", name=f"job-{job_id}-results"
    )


def _choose_export(
    job: jobs.Job, outcome: ResultFilter | None, reason: str | None, cause: Cause | None
) -> Export:
    if outcome is not ResultFilter.UNPROCESSED:
        wanted = Outcome(outcome.value) if outcome else None
        return exports.export_results(job.key, outcome=wanted, reason=reason, cause=cause)
    if reason is not None or cause is not None:
        raise Problem(
            INVALID,
            "Unprocessed items have no reason and no cause. Nothing was read. Leave these out, or"
            " ask for another outcome.",
        )
    return export_unprocessed(job)


@router.get(
    "/v1/jobs/{job_id}/import-rejections",
    summary="List import rejections",
    response_class=Response,
    response_description="A page, or all rows in a stream.",
    responses=_list_responses(ImportRejectionPage, "line,reason,detail\n"),
)
async def list_import_rejections(
    job_id: JobId, state: State, caller: JobsReader, query: ListQuery
) -> Response:
    """List what was left out of an import's file, or of a list of addresses, and why."""
    await require_job(state, caller, job_id)
    export = exports.export_import_rejections(JobKey(caller.account_id, job_id))
    return await build_list_response(
        state, export, query, member="import_rejections", name=f"job-{job_id}-import-rejections"
    )
