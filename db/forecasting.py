"""Count the outcomes that a planned job would have now, without changing anything."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.chunk_rows import PairGroup
from schemas.job_key import JobKey
from schemas.statuses import Status

_sql = load("forecasting")

_MEMORY = "64MB"


class ForecastJob(NamedTuple):
    """The job to forecast. `rules` has, by parameter name, a number for each code."""

    key: JobKey
    fields: Sequence[int]
    role_address_limit: int
    rules: Mapping[str, Sequence[int]]

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the forecast statements."""
        return {
            **self.key._asdict(),
            "fields": self.fields,
            "role_address_limit": self.role_address_limit,
            "statuses": list(Status),
            **self.rules,
        }


async def get_last_chunk_no(connection: asyncpg.Connection, job: JobKey) -> int:
    """Return the number of the last chunk of the job's plan; 0 if the plan has no chunks."""
    return int(await _sql.get_last_chunk_no(connection, **job._asdict()))


async def count_held_once(
    connection: asyncpg.Connection, job: ForecastJob, *, first: int, last: int
) -> tuple[list[PairGroup], int]:
    """Count the selected pairs in chunks `first` to `last` whose address no other contact holds.

    Also return how many other addresses of this kind an opt-out would be propagated to.
    """
    async with connection.transaction():
        await _sql.join_by_hash(connection, memory=_MEMORY)
        return await _read_counts(
            _sql.count_held_once(connection, **job.parameters(), first=first, last=last)
        )


async def count_held_by_several(
    connection: asyncpg.Connection, job: ForecastJob
) -> tuple[list[PairGroup], int]:
    """Count the selected pairs whose address several contacts hold.

    Also return how many addresses an opt-out would be propagated to, without those that
    `count_held_once` returns.
    """
    propagates = any(job.rules["sources"])
    async with connection.transaction():
        await _sql.plan_for_values(connection, memory=_MEMORY)
        large = await _sql.is_large(connection, **job.key._asdict())
        return await _read_counts(
            _sql.count_held_by_several(
                connection, **job.parameters(), large=large, propagates=propagates
            )
        )


async def count_missing(connection: asyncpg.Connection, job: ForecastJob) -> int:
    """Count the listed ids that belong to no contact."""
    return int(await _sql.count_missing(connection, **job.parameters()))


async def count_list(
    connection: asyncpg.Connection, job: ForecastJob
) -> tuple[list[PairGroup], int]:
    """Count the listed addresses, and those to which an opt-out would be propagated from them."""
    return await _read_counts(_sql.count_listed(connection, **job.parameters()))


async def _read_counts(rows: AsyncIterator[asyncpg.Record]) -> tuple[list[PairGroup], int]:
    """Return the groups of pairs, and the number of the row without a field."""
    groups, propagated = [], 0
    async for row in rows:
        if row["field"] is None:
            propagated = row["rows"]
        else:
            groups.append(PairGroup(*row))
    return groups, propagated
