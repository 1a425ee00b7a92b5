"""Imports as they arrive: the rows of a file wait in `import_rows` until workers create
contacts.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import asyncpg

from db.binary_copy import HEADER, TRAILER, encode_text, encode_texts, encode_three_texts
from db.queries import load
from schemas.job_key import JobKey
from schemas.staging import (
    CELL_REJECTION_REASONS,
    ImportRejection,
    ImportRejectionReason,
    ImportRow,
)

_sql = load("imports")

_ROW_COLUMNS = (
    "account_id",
    "job_id",
    "line",
    "given_name",
    "family_name",
    "company",
    "tags",
    "addresses",
    "match_keys",
    "external_id",
    "statuses",
)


class StagedFile(NamedTuple):
    """What a file came to: contacts staged, rows refused, and single cells left out."""

    rows: int
    refused: int
    left_out: int


class PackedRows(NamedTuple):
    """Rows of a file, ready to be stored: by COPY as they are, or each by the driver."""

    rows: int
    copied: memoryview | None
    records: Sequence[tuple[Any, ...]]


def pack_rows(job: JobKey, rows: Sequence[ImportRow]) -> PackedRows:
    """Return the rows of a job as `stage_rows` takes them. It takes longer than to store them."""
    if any(row.statuses for row in rows):
        return PackedRows(len(rows), None, list(_records(job, rows)))
    return PackedRows(len(rows), _pack(job, rows), ())


async def stage_rows(connection: asyncpg.Connection, packed: PackedRows) -> None:
    """Keep rows for the workers, by COPY; each gets the id that its contact will have."""
    if packed.copied is None:
        await connection.copy_records_to_table(
            "import_rows", columns=_ROW_COLUMNS, records=packed.records
        )
    elif packed.rows:
        await connection.copy_to_table(
            "import_rows", source=packed.copied, columns=_ROW_COLUMNS[:-1], format="binary"
        )


def _pack(job: JobKey, rows: Sequence[ImportRow]) -> memoryview:
    """Rows without statuses, in a third of the time that the driver takes to encode them.

    Rows with statuses are left to the driver: an enum's type number differs between databases.
    """
    begin = struct.Struct(">hiqiqiq").pack
    columns = len(_ROW_COLUMNS) - 1
    made = [HEADER]
    for line, given_name, family_name, company, tags, identities, external_id, _ in rows:
        first, second, third = identities
        made += (
            begin(columns, 8, job.account_id, 8, job.job_id, 8, line),
            encode_text(given_name),
            encode_text(family_name),
            encode_text(company),
            encode_texts(tags),
            encode_three_texts(first and first[0], second and second[0], third and third[0]),
            encode_three_texts(first and first[1], second and second[1], third and third[1]),
            encode_text(external_id),
        )
    made.append(TRAILER)
    return memoryview(b"".join(made))


def _records(job: JobKey, rows: Iterable[ImportRow]) -> Iterator[tuple[Any, ...]]:
    for line, given_name, family_name, company, tags, identities, external_id, statuses in rows:
        first, second, third = identities
        yield (
            job.account_id,
            job.job_id,
            line,
            given_name,
            family_name,
            company,
            tags,
            (first and first[0], second and second[0], third and third[0]),
            (first and first[1], second and second[1], third and third[1]),
            external_id,
            statuses,
        )


async def insert_import_rejections(
    connection: asyncpg.Connection, job: JobKey, *, rejections: Iterable[ImportRejection]
) -> None:
    """Keep what was refused, with its line and reason, for good."""
    await connection.copy_records_to_table(
        "import_rejections",
        columns=("account_id", "job_id", "line", "reason", "detail"),
        records=(
            (job.account_id, job.job_id, line, reason.value, detail)
            for line, reason, detail in rejections
        ),
    )


async def set_request_hash(
    connection: asyncpg.Connection, job: JobKey, *, request_hash: str
) -> None:
    """Complete the job's request, in the transaction that stores it."""
    await _sql.set_request_hash(connection, **job._asdict(), request_hash=request_hash)


async def read_staged_file(connection: asyncpg.Connection, job: JobKey) -> StagedFile:
    """Return what the file of an import contained when it was submitted."""
    row = await _sql.read_staged_file(
        connection,
        **job._asdict(),
        row_reasons=[
            reason.value for reason in ImportRejectionReason if reason not in CELL_REJECTION_REASONS
        ],
        cell_reasons=[reason.value for reason in CELL_REJECTION_REASONS],
    )
    return StagedFile(*row)
