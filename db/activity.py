"""Activity: who did what, inserted by the transaction that does it, and never changed."""

from typing import Any

import asyncpg

from db.jobs import account_of_job
from db.queries import load
from schemas.actors import ActivityEvent, Actor, format_actor
from schemas.requests import MAX_ID
from schemas.views import ActivityView

_sql = load("activity")


async def record(
    connection: asyncpg.Connection,
    event: ActivityEvent,
    actor: Actor,
    *,
    account_id: int,
    job_id: int | None = None,
    key_id: int | None = None,
    hook_id: int | None = None,
    correlation_id: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Insert the event; part of the transaction that does what it records."""
    await _sql.record(
        connection,
        account_id=account_id,
        actor_kind=actor.kind.value,
        actor_id=actor.id,
        via=actor.via.value,
        event=event.value,
        job_id=job_id,
        key_id=key_id,
        hook_id=hook_id,
        correlation_id=correlation_id,
        detail=detail,
    )


async def list_activity(
    connection: asyncpg.Connection,
    *,
    account_id: int | None,
    job_id: int | None = None,
    before: int = MAX_ID,
    limit: int,
) -> list[ActivityView]:
    """Return up to `limit` events with ids below `before`, newest first.

    They are of one account and of one job, if given.
    """
    place = {"before": before, "limit": limit}
    if job_id is not None:
        if account_id is None:
            account_id = await account_of_job(connection, job_id)
        rows = _sql.list_activity_of_job(connection, job_id=job_id, account_id=account_id, **place)
    elif account_id is not None:
        rows = _sql.list_activity_of_account(connection, account_id=account_id, **place)
    else:
        rows = _sql.list_activity(connection, **place)
    return [
        ActivityView(**row, actor=format_actor(row["actor_kind"], row["actor_id"]))
        async for row in rows
    ]
