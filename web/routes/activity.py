"""Who did what in the caller's account."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db import activity
from schemas.actors import ActivityEvent
from schemas.requests import MAX_ID
from web.auth import JobsReader
from web.job_responses import ActorField, ViaField
from web.number_params import QUERY_NUMBER
from web.pagination import Cursor, Limit, decode_cursor, encode_cursor
from web.problems import INVALID, problem_responses
from web.state import State

router = APIRouter(tags=["activity"])


class ActivityRow(BaseModel):
    """One act of a caller: upon a job, a key or a hook."""

    id: int
    at: datetime
    event: Annotated[ActivityEvent, Field(description="What was done.")]
    actor: ActorField
    via: ViaField
    job_id: Annotated[int | None, Field(description="The job, null where it is about none.")]
    key_id: Annotated[int | None, Field(description="The API key, null where it is about none.")]
    hook_id: Annotated[int | None, Field(description="The hook, null where it is about none.")]
    correlation_id: Annotated[
        str | None,
        Field(description="Of the request by which it was done; null where there was none."),
    ]
    detail: Annotated[
        dict[str, Any] | None,
        Field(description="Of a plan the counts that were confirmed, of a key its scopes."),
    ]

    @classmethod
    def from_row(cls, row: activity.Activity) -> Self:
        """Build the row of the response; an unknown act raises ValueError."""
        return cls(
            id=row.id,
            at=row.at,
            event=ActivityEvent(row.event),
            actor=row.actor,
            via=row.via,
            job_id=row.job_id,
            key_id=row.key_id,
            hook_id=row.hook_id,
            correlation_id=row.correlation_id,
            detail=row.detail,
        )


class ActivityPage(BaseModel):
    """A page of acts, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "activity": [
                        {
                            "id": 12,
                            "at": "2025-03-01T08:00:00Z",
                            "act": "job.paused",
                            "actor": "key:7",
                            "via": "http",
                            "job_id": 3,
                            "key_id": None,
                            "hook_id": None,
                            "correlation_id": "f6b0f0c1",
                            "detail": None,
                        }
                    ],
                    "next": None,
                }
            ]
        }
    )

    activity: list[ActivityRow]
    next: Annotated[
        str | None, Field(description="The cursor of the next page, null after the last.")
    ]


@router.get(
    "/v1/activity",
    operation_id="list_activity",
    summary="See who did what",
    response_description="A page of what was done in the account.",
    responses=problem_responses(INVALID),
)
async def list_activity(
    *,
    state: State,
    caller: JobsReader,
    limit: Limit = 100,
    cursor: Cursor = None,
    job_id: Annotated[
        int | None,
        Query(ge=1, le=MAX_ID, description="Only what was done with this job."),
        QUERY_NUMBER,
    ] = None,
) -> ActivityPage:
    """List who did what to the account's jobs, keys, hooks and secret, newest first.

    Acts are: jobs submitted, paused, resumed, cancelled or applied; keys, hooks or secrets made,
    renewed or revoked. Rows are never changed.
    """
    before = MAX_ID
    if cursor is not None:
        (before,) = decode_cursor(cursor, int)
    async with state.pool.acquire() as connection:
        found = await activity.list_activity(
            connection, account_id=caller.account_id, job_id=job_id, before=before, limit=limit
        )
    return ActivityPage(
        activity=[ActivityRow.from_row(row) for row in found],
        next=encode_cursor(found[-1].id) if len(found) == limit else None,
    )
