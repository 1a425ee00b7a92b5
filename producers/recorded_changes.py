"""A change by an actor: a transaction with its activity record, and a log line afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from db import activity
from runtime import logs
from runtime.event_keys import Event
from schemas.actors import ActivityEvent, Actor

log = logs.get_logger()


@dataclass
class RecordedChange:
    """The change that a transaction makes; without a call of `record` it leaves no trace.

    `logged` are the keys of its log line.
    """

    connection: asyncpg.Connection
    event: Event
    actor: Actor
    logged: dict[str, Any] | None = None

    async def record(
        self,
        *,
        account_id: int,
        detail: dict[str, Any] | None = None,
        request_correlation_id: str | None = None,
        logged: dict[str, Any] | None = None,
        **subject: int,
    ) -> None:
        """Record the change of the `subject` (`job_id`, `key_id` or `hook_id`) as activity.

        The log line has these ids, and what is `logged` besides.
        """
        await activity.record(
            self.connection,
            ActivityEvent(self.event.name),
            self.actor,
            account_id=account_id,
            correlation_id=request_correlation_id,
            detail=detail,
            **subject,
        )
        ids = {name.removesuffix("_id"): value for name, value in subject.items()}
        self.logged = {**ids, "account": account_id, **(logged or {}), **self.actor.log_keys()}


@asynccontextmanager
async def recorded_change(
    pool: asyncpg.Pool, event: Event, actor: Actor
) -> AsyncIterator[RecordedChange]:
    """Open a transaction for a change of this kind, and log the change once it is committed."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            change = RecordedChange(connection, event, actor)
            yield change
        if change.logged is not None:
            log.info(event, **change.logged)
