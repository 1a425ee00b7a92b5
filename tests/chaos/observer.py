"""The view of the database for checks, over connections that no fault terminates."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiosql
import asyncpg
import redis

from db.errors import CONNECTION_ERRORS, TRANSIENT_ERRORS
from schemas.errors import DatabaseUnreachable, QueueUnreachable

T = TypeVar("T")

sql: Any = aiosql.from_path(
    Path(__file__).with_name("run.sql"), "asyncpg", mandatory_parameters=False
)

APPLICATION = "chaos-observer"
"""The application name of its connections, so that faults spare them."""

LOST_ANSWER_ERRORS: tuple[type[BaseException], ...] = (
    *TRANSIENT_ERRORS,
    *CONNECTION_ERRORS,
    DatabaseUnreachable,
    QueueUnreachable,
    redis.RedisError,
)
"""Errors that mean that the answer was lost, whatever was asked."""

_RETRY_SECONDS = 0.25
ANSWER_SECONDS = 90.0
"""How long an answer is awaited: longer than all outages together."""


async def retry_until_answered(ask: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """Return the answer, and how often it was lost before. Raises the last error
    after a long time.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    lost = 0
    while True:
        try:
            return await ask(), lost
        except LOST_ANSWER_ERRORS:
            if time.monotonic() > deadline:
                raise
            lost += 1
            await asyncio.sleep(_RETRY_SECONDS)


class JobProgress(NamedTuple):
    """The progress of a job that should advance."""

    job_id: int
    state: str
    done: int


class Observer:
    """Repeats each query until it is answered."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool

    async def rows(self, name: str, **parameters: Any) -> list[asyncpg.Record]:
        """Return the rows of a statement of `run.sql`."""

        async def ask() -> list[asyncpg.Record]:
            async with self.pool.acquire() as connection:
                return [row async for row in getattr(sql, name)(connection, **parameters)]

        return (await retry_until_answered(ask))[0]

    async def value(self, name: str, **parameters: Any) -> Any:
        """Return the value, the only row or None of a statement of `run.sql`."""

        async def ask() -> Any:
            async with self.pool.acquire() as connection:
                return await getattr(sql, name)(connection, **parameters)

        return (await retry_until_answered(ask))[0]

    async def active_jobs(self) -> list[JobProgress]:
        """Return the jobs that are planning or running."""
        return [JobProgress(*row) for row in await self.rows("active_jobs")]

    async def find_advanced(self, noted: list[JobProgress]) -> set[int]:
        """Return the jobs that advanced: a chunk done, the state changed, or no chunk left free."""
        before = {job.job_id: job for job in noted}
        rows = await self.rows("job_progress", jobs=list(before))
        return {
            row["id"]
            for row in rows
            if row["state"] != before[row["id"]].state
            or row["done"] != before[row["id"]].done
            or (row["state"] == "running" and not row["has_free_chunk"])
        }
