"""Append results, and read what a job has decided."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from db.queries import load
from db.result_rows import STORED_COLUMNS, Contacts, ResultRows, pack_rows, result_objects
from schemas.job_key import JobKey

_sql = load("results")

MAX_ROWS_BY_INSERT = 20
"""Up to this many rows are sent by INSERT, which takes one round trip fewer than COPY."""


async def insert_results(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    chunk_no: int,
    decided_at: datetime | None,
    rows: ResultRows,
    contacts: Contacts,
) -> None:
    """Append the results of a chunk: by COPY if there are more than `MAX_ROWS_BY_INSERT`.

    Without `decided_at`, they get the time of the database.
    """
    count = sum(map(len, rows.values()))
    if not count:
        return
    if decided_at is None or count <= MAX_ROWS_BY_INSERT:
        await _sql.insert_results(
            connection,
            **job._asdict(),
            chunk_no=chunk_no,
            decided_at=decided_at,
            results=result_objects(rows, contacts),
        )
    else:
        packed = pack_rows(
            job, chunk_no=chunk_no, decided_at=decided_at, rows=rows, contacts=contacts
        )
        await connection.copy_to_table(
            "results", source=packed, columns=STORED_COLUMNS, format="binary"
        )


async def find_earlier_decisions(
    connection: asyncpg.Connection, job: JobKey, address_ids: Sequence[int]
) -> list[tuple[int, str, str | None, str | None]]:
    """Return (address, outcome, to_status, reason) of the job's direct results so far.

    An address that the job selected several times has one entry: its applied result, if any.
    """
    rows = _sql.find_earlier_decisions(connection, **job._asdict(), address_ids=address_ids)
    return [tuple(row) async for row in rows]
