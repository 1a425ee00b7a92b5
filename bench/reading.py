"""Pages of results among very many: how long Postgres takes for them, and by which plan."""

import json
import random
import statistics
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import asyncpg

from bench.effects import sql
from db import exports
from db.address_history import list_history
from schemas.outcomes import Outcome

_PAGES = 20
ROWS = 100
"""Of a page."""

MAX_ROWS_BY_INSERT = 1_000
"""A table of fewer rows, as that of the jobs may be, is read as a whole with good reason."""

_SEED = 31
_Question: TypeAlias = Callable[[Any], Awaitable[object]]
"""What is asked through a connection."""


class _Explaining:
    """Stands for a connection: what is asked through it is explained and not answered."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.plan: dict[str, Any] = {}

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        explained = await self._connection.fetchval(
            f"explain (analyze, format json) {statement}", *arguments
        )
        self.plan = json.loads(explained)[0]
        return []

    async def fetchrow(self, statement: str, *arguments: Any) -> tuple[Any, ...]:
        await self.fetch(statement, *arguments)
        return "", 0


async def pages(
    connection: asyncpg.Connection, *, account_id: int, job_id: int, first: int, contacts: int
) -> dict[str, Any]:
    """Milliseconds of pages from all over the job's results, its rejections, and of the histories
    of addresses, each planned and run on its own.
    """
    rows = await sql.count_results(connection)
    draw = random.Random(_SEED)
    results = exports.Results(account_id, job_id)
    rejected = replace(results, outcome=Outcome.REJECTED)

    def places() -> Iterator[int]:
        return (first + draw.randrange(contacts) for _ in range(_PAGES))

    def page(listing: exports.Results, place: int) -> _Question:
        after = (place, *listing.start[1:])
        return partial(listing.page, form=exports.ExportFormat.CSV, after=after, limit=ROWS)

    asked: dict[str, list[_Question]] = {
        "results": [page(results, place) for place in places()],
        "rejections": [page(rejected, place) for place in places()],
        "history": [
            partial(
                list_history,
                account_id=account_id,
                address_id=first + 2 * (place - first),
                limit=ROWS,
            )
            for place in places()
        ],
    }
    return {
        name: {"result_rows": rows} | await _explained(connection, questions)
        for name, questions in asked.items()
    }


async def _explained(connection: asyncpg.Connection, questions: list[_Question]) -> dict[str, Any]:
    milliseconds: list[float] = []
    scanned: dict[str, int] = {}
    for question in questions:
        explaining = _Explaining(connection)
        await question(explaining)
        plan = explaining.plan
        milliseconds.append(round(plan["Planning Time"] + plan["Execution Time"], 3))
        for table, rows in scans(plan["Plan"]):
            scanned[table] = max(scanned.get(table, 0), rows)
    return {
        "pages": len(milliseconds),
        "rows": ROWS,
        "ms": milliseconds,
        "ms_median": statistics.median(milliseconds),
        "ms_longest": max(milliseconds),
        "scanned": scanned,
        "sequential_scan": any(rows > MAX_ROWS_BY_INSERT for rows in scanned.values()),
    }


def scans(plan: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The tables that the plan went through from start to end, and how many rows it saw there."""
    if plan["Node Type"] == "Seq Scan" and plan["Actual Loops"]:
        seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        yield plan["Relation Name"], round(seen * plan["Actual Loops"])
    for part in plan.get("Plans", ()):
        yield from scans(part)
