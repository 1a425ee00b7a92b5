"""Counting what a planned job would do, as exactly as if it had been done, and changing nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias

import asyncpg

from actions.registry import get_action
from actions.rules.forecast import compute_code_rules, forecast
from db import forecasting
from db.errors import TRANSIENT_ERRORS
from db.forecasting import ForecastJob
from db.planning import JobToPlan
from schemas.chunk_rows import PairGroup
from schemas.requests import LISTED_ADDRESS_FIELD

CONTACTS_PER_STATEMENT = 10_000
"""So many contacts, about, are counted by one statement; more would take no less time for each."""

_Part: TypeAlias = Callable[[asyncpg.Connection], Awaitable[tuple[list[PairGroup], int]]]


async def compute_forecast(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    job: JobToPlan,
    *,
    chunk_size: int,
    shared_address_limit: int,
) -> dict[str, Any]:
    """Forecast what the job would do now, as `actions.rules.forecast.forecast` does, with the time.

    The job's chunks must be committed, since other connections of the pool read them too.
    Statements run one after the other, so a concurrent change may be counted in part. Raises what
    the action's own rules raise.
    """
    action = get_action(job.action)
    params = action.params.model_validate(job.params)
    counted_at = datetime.now(UTC)
    forecast_job = ForecastJob(
        job.key,
        job.fields,
        shared_address_limit,
        compute_code_rules(action, params)._asdict(),
    )
    assert job.selected is not None
    missing = 0
    if job.fields == [LISTED_ADDRESS_FIELD]:
        groups, propagated = await forecasting.count_list(connection, forecast_job)
    else:
        groups, propagated = await _count_contacts(connection, pool, forecast_job, chunk_size)
        if "contacts" in job.selection:
            missing = await forecasting.count_missing(connection, forecast_job)
    counts = forecast(
        action,
        params,
        fields=job.fields,
        contacts=job.selected // len(job.fields),
        missing=missing,
        groups=groups,
        propagated=propagated,
    )
    return {**counts, "counted_at": counted_at.isoformat()}


async def _count_contacts(
    connection: asyncpg.Connection, pool: asyncpg.Pool, job: ForecastJob, chunk_size: int
) -> tuple[list[PairGroup], int]:
    groups: list[PairGroup] = []
    propagated = 0
    last_chunk = await forecasting.last_chunk(connection, job.key)
    parts = _iter_parts(job, last_chunk, max(1, CONTACTS_PER_STATEMENT // chunk_size))

    async def count(lane: asyncpg.Connection) -> None:
        nonlocal propagated
        for part in parts:
            counted, more = await part(lane)
            groups.extend(counted)
            propagated += more

    async with _second_connection(pool, last_chunk * chunk_size) as second:
        await _gather_all([count(lane) for lane in (connection, second) if lane is not None])
    return groups, propagated


async def _gather_all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; raise the first error only when the others have ended too.

    Each of them releases its connection when it ends.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _iter_parts(job: ForecastJob, last_chunk: int, step: int) -> Iterator[_Part]:
    """Yield the parts to count, each for one connection; the largest part first."""
    yield partial(forecasting.count_shared, job=job)
    for first in range(1, last_chunk + 1, step):
        yield partial(forecasting.count_slice, job=job, first=first, last=first + step - 1)


@asynccontextmanager
async def _second_connection(
    pool: asyncpg.Pool, contacts: int
) -> AsyncIterator[asyncpg.Connection | None]:
    """Take a second connection, if there are contacts enough for two and one is free.

    It never waits: two planners that wait for each other's connections would never end.
    """
    connection = None
    if contacts > CONTACTS_PER_STATEMENT and pool.has_room:
        # One is enough, where Postgres gives no more.
        with suppress(*TRANSIENT_ERRORS):
            connection = await pool.acquire()
    try:
        yield connection
    finally:
        if connection is not None:
            await pool.release(connection)
