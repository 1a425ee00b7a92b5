"""A change by an actor: a transaction with its activity record, and a log line afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from db import activity
from runtime import logs
from runtime.event_keys import Event
from schemas.actors import ActivityEvent, Actor

log = logs.get_logger()


class RecordedChange:
    """The change that a transaction makes; without a call of `record` it leaves no trace."""

    def __init__(self, connection: asyncpg.Connection, event: Event, actor: Actor) -> None:
        self.connection = connection
        self._event = event
        self._actor = actor
        self._logged: dict[str, Any] | None = None

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
            ActivityEvent(self._event.name),
            self._actor,
            account_id=account_id,
            correlation_id=request_correlation_id,
            detail=detail,
            **subject,
        )
        ids = {name.removesuffix("_id"): value for name, value in subject.items()}
        self._logged = {**ids, "account": account_id, **(logged or {}), **self._actor.log_keys()}

    def log(self) -> None:
        """Log what was recorded; for after the commit."""
        if self._logged is not None:
            log.info(self._event, **self._logged)


@asynccontextmanager
async def recorded_change(
    pool: asyncpg.Pool, event: Event, actor: Actor
) -> AsyncIterator[RecordedChange]:
    """Open a transaction for a change of this kind, and log the change once it is committed."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            change = RecordedChange(connection, event, actor)
            yield change
        change.log()
