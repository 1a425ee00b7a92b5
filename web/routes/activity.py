"""The activity of the caller's account: who did what."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db import activity
from schemas.actors import ActivityEvent
from schemas.requests import MAX_ID
from web.auth import JobsReader
from web.examples import get_examples
from web.job_responses import ActorField, ViaField
from web.pagination import Cursor, Limit, decode_id_cursor, encode_cursor
from web.params import QUERY_NUMBER
from web.problems import INVALID, problem_responses
from web.state import State

router = APIRouter(tags=["activity"])


class ActivityRow(BaseModel):
    """What an actor did to a job, a key, a hook or the account."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    event: Annotated[ActivityEvent, Field(description="What was done.")]
    actor: ActorField
    via: ViaField
    job_id: Annotated[int | None, Field(description="The job, or null.")]
    key_id: Annotated[int | None, Field(description="The API key, or null.")]
    hook_id: Annotated[int | None, Field(description="The hook, or null.")]
    correlation_id: Annotated[
        str | None, Field(description="The correlation id of the request, or null without one.")
    ]
    detail: Annotated[
        dict[str, Any] | None,
        Field(description="The confirmed counts of a plan, or the scopes of a key."),
    ]


class ActivityPage(BaseModel):
    """A page of activity, the newest first."""

    model_config = ConfigDict(json_schema_extra=get_examples("ActivityPage"))

    activity: list[ActivityRow]
    next: Annotated[
        str | None, Field(description="The cursor of the next page, null after the last.")
    ]


@router.get(
    "/v1/activity",
    operation_id="list_activity",
    summary="List who did what",
    response_description="A page of the account's activity.",
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
        Query(ge=1, le=MAX_ID, description="Only what was done to this job."),
        QUERY_NUMBER,
    ] = None,
) -> ActivityPage:
    """List who submitted, paused, resumed, cancelled or applied a job, and who made, renewed or
    revoked a key, a hook or a secret of the account. The newest comes first. Rows never change.
    """
    before = decode_id_cursor(cursor, first=MAX_ID)
    async with state.pool.acquire() as connection:
        found = await activity.list_activity(
            connection, account_id=caller.account_id, job_id=job_id, before=before, limit=limit
        )
    return ActivityPage(
        activity=[ActivityRow.model_validate(row) for row in found],
        next=encode_cursor(found[-1].id) if len(found) == limit else None,
    )
