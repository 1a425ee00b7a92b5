"""Counting what a planned job would do: exactly, and without changing anything."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg

from actions.registry import get_action
from actions.rules.forecast import compute_code_rules, forecast
from db import forecasting
from db.errors import TRANSIENT_ERRORS
from db.forecasting import ForecastJob
from db.planning import JobToPlan
from engine.sources import source_of
from engine.sources.source import ForecastPart
from schemas.chunk_rows import PairGroup

CONTACTS_PER_STATEMENT = 10_000
"""About how many contacts one statement counts. More would not be faster per contact."""


async def compute_forecast(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    job: JobToPlan,
    *,
    chunk_size: int,
    role_address_limit: int,
) -> dict[str, Any]:
    """Return the forecast of `actions.rules.forecast` for this moment, with the time.

    The job's chunks must be committed, since another connection of the pool reads them too. A
    change between two statements may be counted in part. Raises what the action's rules raise.
    """
    action = get_action(job.action)
    params = action.params.model_validate(job.params)
    counted_at = datetime.now(UTC)
    rules = compute_code_rules(action, params)._asdict()
    forecast_job = ForecastJob(job.key, job.fields, role_address_limit, rules)
    assert job.selected is not None
    contacts = job.selected // len(job.fields)
    parts = await source_of(job).forecast_parts(
        connection, forecast_job, max(1, CONTACTS_PER_STATEMENT // chunk_size)
    )
    groups, propagated = await _count_parts(connection, pool, parts, contacts)
    missing = 0
    if "contacts" in job.selection:
        missing = await forecasting.count_missing(connection, forecast_job)
    counts = forecast(
        action,
        params,
        fields=job.fields,
        contacts=contacts,
        missing=missing,
        groups=groups,
        propagated=propagated,
    )
    return {**counts, "counted_at": counted_at.isoformat()}


async def _count_parts(
    connection: asyncpg.Connection,
    pool: asyncpg.Pool,
    parts: Sequence[ForecastPart],
    contacts: int,
) -> tuple[list[PairGroup], int]:
    groups: list[PairGroup] = []
    propagated = 0
    remaining = iter(parts)

    async def count(connection: asyncpg.Connection) -> None:
        nonlocal propagated
        for part in remaining:
            counted, more = await part(connection)
            groups.extend(counted)
            propagated += more

    async with _second_connection(pool, contacts if len(parts) > 1 else 0) as second:
        await _gather_all([count(each) for each in (connection, second) if each is not None])
    return groups, propagated


async def _gather_all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all. Raise the first error only when the others have ended too.

    Until they end, they use their connections.
    """
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _second_connection(
    pool: asyncpg.Pool, contacts: int
) -> AsyncIterator[asyncpg.Connection | None]:
    """Take a second connection if there are enough contacts for two and one is free.

    Never wait for it: two planners could wait for each other's connections without end.
    """
    connection = None
    if contacts > CONTACTS_PER_STATEMENT and pool.has_room:
        # One is enough if Postgres accepts no more.
        with suppress(*TRANSIENT_ERRORS):
            connection = await pool.acquire()
    try:
        yield connection
    finally:
        if connection is not None:
            await pool.release(connection)
