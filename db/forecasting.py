"""Count the outcomes that a planned job would have now, without changing anything."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.chunk_rows import PairGroup
from schemas.job_key import JobKey
from schemas.requests import LISTED_ADDRESS_FIELD
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
    propagated = 0
    counted = []
    async with connection.transaction():
        await _sql.join_by_hash(connection, memory=_MEMORY)
        rows = _sql.count_held_once(connection, **job.parameters(), first=first, last=last)
        async for row in rows:
            if row["field"] is None:
                propagated = row["rows"]
            else:
                counted.append(PairGroup(*row))
    return counted, propagated


async def count_held_by_several(
    connection: asyncpg.Connection, job: ForecastJob
) -> tuple[list[PairGroup], int]:
    """Count the selected pairs whose address several contacts hold.

    Also return how many addresses an opt-out would be propagated to, without those that
    `count_held_once` returns.
    """
    async with connection.transaction():
        await _sql.plan_for_values(connection, memory=_MEMORY)
        large = await _sql.is_large(connection, **job.key._asdict())
        arguments = {**job.parameters(), "large": large}
        counted = [
            PairGroup(*row) async for row in _sql.count_held_by_several(connection, **arguments)
        ]
        propagates = any(job.rules["sources"])
        propagated = await _sql.count_propagated(connection, **arguments) if propagates else 0
    return counted, propagated


async def count_missing(connection: asyncpg.Connection, job: ForecastJob) -> int:
    """Count the listed ids that belong to no contact."""
    return int(await _sql.count_missing(connection, **job.parameters()))


async def count_list(
    connection: asyncpg.Connection, job: ForecastJob
) -> tuple[list[PairGroup], int]:
    """Count the listed addresses, and those to which an opt-out would be propagated from them."""
    counted = [
        PairGroup(
            LISTED_ADDRESS_FIELD, row["code"], sibling_opted_out=False, first=True, rows=row["rows"]
        )
        async for row in _sql.count_listed(connection, **job.parameters())
    ]
    return counted, await _sql.count_propagated_by_list(connection, **job.parameters())
