"""Completion notices in Postgres: who is to be told of a job's end, and whether that was done."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load

_sql = load("notices")


class DueNotice(NamedTuple):
    """A notice that is this process's to deliver, until its lease is over.

    `attempt` counts from 1. The URL may carry a token in it, and is in no text.
    """

    job_id: int
    account_id: int
    url: str
    attempt: int

    def __repr__(self) -> str:
        return f"DueNotice(job_id={self.job_id}, attempt={self.attempt})"


class Notice(NamedTuple):
    """How far the telling of a job's end is; `error` is why the last attempt failed."""

    attempts: int
    delivered_at: datetime | None
    abandoned_at: datetime | None
    error: str | None


async def keep_url(connection: asyncpg.Connection, job_id: int, url: str) -> None:
    """Have the URL told of the job's end; to be called in the transaction that stores the job."""
    await _sql.keep_url(connection, job_id=job_id, url=url)


async def any_due(connection: asyncpg.Connection) -> bool:
    """Whether a notice waits to be delivered."""
    found: bool = await _sql.any_due(connection)
    return found


async def claim(
    connection: asyncpg.Connection, *, busy: Collection[int], lease_seconds: float
) -> DueNotice | None:
    """The notice that has been due for longest, for this process to deliver; None where none is.

    Those of the accounts `busy` are left out.
    """
    row = await _sql.claim(connection, busy=list(busy), lease_seconds=lease_seconds)
    return DueNotice(*row) if row else None


async def note_delivered(connection: asyncpg.Connection, notice: DueNotice) -> None:
    """The receiver has taken it."""
    await _sql.note_delivered(connection, job_id=notice.job_id)


async def note_failed(
    connection: asyncpg.Connection, notice: DueNotice, *, error: str, delay_seconds: float
) -> None:
    """The attempt failed; there will be another."""
    await _sql.note_failed(
        connection,
        job_id=notice.job_id,
        attempt=notice.attempt,
        error=error,
        delay_seconds=delay_seconds,
    )


async def note_abandoned(connection: asyncpg.Connection, notice: DueNotice, *, error: str) -> None:
    """The attempt failed, and there will be no other."""
    await _sql.note_abandoned(connection, job_id=notice.job_id, attempt=notice.attempt, error=error)


async def notice_of(connection: asyncpg.Connection, job_id: int) -> Notice | None:
    """How far the telling of the job's end is; None where nobody asked to be told."""
    row = await _sql.notice_of(connection, job_id=job_id)
    return Notice(*row) if row else None
