"""The activity of the caller's account: who did what."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from db import activity
from schemas.examples import get_examples
from schemas.requests import MAX_ID
from schemas.views import ActivityView
from web.auth import JobsReader
from web.pagination import Cursor, Limit, decode_id_cursor, encode_cursor
from web.params import QUERY_NUMBER
from web.state import State

router = APIRouter(tags=["activity"])


class ActivityPage(BaseModel):
    """A page of activity, the newest first."""

    model_config = ConfigDict(json_schema_extra=get_examples("ActivityPage"))

    activity: list[ActivityView]
    next: Annotated[
        str | None, Field(description="The cursor of the next page, null after the last.")
    ]


@router.get(
    "/v1/activity",
    summary="List who did what",
    response_description="A page of the account's activity.",
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
    """List who submitted, paused, resumed, cancelled or applied a job, and who created, renewed or
    revoked a key, a hook or a secret of the account. The newest comes first. Rows never change.
    """
    before = decode_id_cursor(cursor, first=MAX_ID)
    async with state.pool.acquire() as connection:
        found = await activity.list_activity(
            connection, account_id=caller.account_id, job_id=job_id, before=before, limit=limit
        )
    return ActivityPage(
        activity=found,
        next=encode_cursor(found[-1].id) if len(found) == limit else None,
    )
