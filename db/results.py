"""Appending to the ledger: by COPY, where the rows are many, and reading what a job has decided."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from db.queries import load
from db.result_rows import RESULT_COLUMNS, Contacts, Pair, ResultKind, pack_rows, result_columns
from schemas.job_key import JobKey

_sql = load("results")


MAX_ROWS_BY_INSERT = 20
"""Up to so many result rows are inserted and not copied, which takes a round trip less."""


async def insert_results(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    chunk_no: int,
    decided_at: datetime,
    rows: Mapping[ResultKind, Sequence[Pair]],
    contacts: Contacts,
) -> None:
    """Append result rows: by COPY, where they are many."""
    count = sum(map(len, rows.values()))
    if 0 < count <= MAX_ROWS_BY_INSERT:
        await _sql.insert_few(
            connection,
            **job._asdict(),
            chunk_no=chunk_no,
            decided_at=decided_at,
            **result_columns(rows, contacts),
        )
    elif count:
        await connection.copy_to_table(
            "results",
            source=pack_rows(
                **job._asdict(),
                chunk_no=chunk_no,
                decided_at=decided_at,
                rows=rows,
                contacts=contacts,
            ),
            columns=RESULT_COLUMNS,
            format="binary",
        )


async def insert_rejections(
    connection: asyncpg.Connection, job: JobKey, *, chunk_no: int, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Append result rows of an item that could not be done, timed by the database."""
    if rows:
        columns = [name for name in RESULT_COLUMNS if name != "decided_at"]
        await connection.copy_records_to_table(
            "results",
            records=[(job.account_id, job.job_id, chunk_no, *row) for row in rows],
            columns=columns,
        )


async def find_earlier_decisions(
    connection: asyncpg.Connection, job: JobKey, address_ids: Sequence[int]
) -> list[tuple[int, str, str | None, str | None]]:
    """(address, outcome, to_status, reason) of this job's direct decisions so far."""
    rows = _sql.find_earlier_decisions(connection, **job._asdict(), address_ids=address_ids)
    return [tuple(row) async for row in rows]
