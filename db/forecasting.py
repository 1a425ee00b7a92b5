"""Counting what a planned job would come to, without changing anything."""

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
    """The job whose selection is counted, with what the rules say of each code."""

    key: JobKey
    fields: Sequence[int]
    shared_address_limit: int
    rules: Mapping[str, Sequence[int]]

    def arguments(self) -> dict[str, Any]:
        """Return the parameters that every forecast statement accepts."""
        return {
            **self.key._asdict(),
            "fields": self.fields,
            "shared_address_limit": self.shared_address_limit,
            "statuses": list(Status),
            **self.rules,
        }


async def last_chunk(connection: asyncpg.Connection, job: JobKey) -> int:
    """Return the number of the last chunk of the job's plan; 0 if the plan has no chunks."""
    number: int = await _sql.last_chunk(connection, **job._asdict())
    return number


async def count_slice(
    connection: asyncpg.Connection, job: ForecastJob, *, first: int, last: int
) -> tuple[list[PairGroup], int]:
    """Of the contacts of some chunks: the pairs of addresses that no other contact holds, and to
    how many others of those an opt-out would be propagated.
    """
    propagated = 0
    counted = []
    async with connection.transaction():
        await _sql.join_by_hash(connection, memory=_MEMORY)
        rows = _sql.count_slice(connection, **job.arguments(), first=first, last=last)
        async for row in rows:
            if row["field"] is None:
                propagated = row["rows"]
            else:
                counted.append(PairGroup(*row))
    return counted, propagated


async def count_shared(
    connection: asyncpg.Connection, job: ForecastJob
) -> tuple[list[PairGroup], int]:
    """Count the addresses that several contacts hold, and the contacts that have them as
    siblings.
    """
    async with connection.transaction():
        await _sql.plan_for_values(connection, memory=_MEMORY)
        large = await _sql.is_large(connection, **job.key._asdict())
        arguments = {**job.arguments(), "large": large}
        counted = [PairGroup(*row) async for row in _sql.count_shared(connection, **arguments)]
        propagated = 0
        if any(job.rules["sources"]):
            propagated = await _sql.count_propagated(connection, **arguments)
    return counted, propagated


async def count_missing(connection: asyncpg.Connection, job: ForecastJob) -> int:
    """Count the listed ids that belong to no contact."""
    missing: int = await _sql.count_missing(connection, **job.arguments())
    return missing


async def count_list(
    connection: asyncpg.Connection, job: ForecastJob
) -> tuple[list[PairGroup], int]:
    """Of a list of addresses: the addresses, and to how many others one would propagate."""
    counted = [
        PairGroup(
            LISTED_ADDRESS_FIELD, row["code"], sibling_opted_out=False, first=True, rows=row["rows"]
        )
        async for row in _sql.count_listed(connection, **job.arguments())
    ]
    propagated: int = await _sql.count_propagated_by_list(connection, **job.arguments())
    return counted, propagated
