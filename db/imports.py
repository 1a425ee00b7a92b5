"""Imports at the door: the rows of a file wait in `import_rows` until workers make contacts."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import asyncpg

from db.binary_copy import HEADER, TRAILER, text, texts, three_texts
from db.queries import load
from schemas.staging import CELL_REASONS, Refusal, RefusalReason, StagedRow

_sql = load("imports")

_ROW_COLUMNS = (
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


class Staged(NamedTuple):
    """What a file came to: contacts staged, rows refused, and single cells left out."""

    rows: int
    refused: int
    left_out: int


class Packed(NamedTuple):
    """Rows of a file, ready to be stored: by COPY as they are, or each by the driver."""

    rows: int
    copied: memoryview | None
    records: Sequence[tuple[Any, ...]]


def pack_rows(job_id: int, rows: Sequence[StagedRow]) -> Packed:
    """Return the rows of a job as `stage_rows` takes them. It takes longer than to store them."""
    if any(row.statuses for row in rows):
        return Packed(len(rows), None, list(_records(job_id, rows)))
    return Packed(len(rows), _packed(job_id, rows), ())


async def stage_rows(connection: asyncpg.Connection, packed: Packed) -> None:
    """Keep rows for the workers, by COPY; each gets the id that its contact will have."""
    if packed.copied is None:
        await connection.copy_records_to_table(
            "import_rows", columns=_ROW_COLUMNS, records=packed.records
        )
    elif packed.rows:
        await connection.copy_to_table(
            "import_rows", source=packed.copied, columns=_ROW_COLUMNS[:-1], format="binary"
        )


def _packed(job_id: int, rows: Sequence[StagedRow]) -> memoryview:
    """Rows without statuses, in a third of the time that the driver takes to encode them.

    (The number that stands for the type of a status is another one in each database.)
    """
    begin = struct.Struct(">hiqiq").pack
    columns = len(_ROW_COLUMNS) - 1
    made = [HEADER]
    for line, given_name, family_name, company, tags, identities, external_id, _ in rows:
        first, second, third = identities
        made += (
            begin(columns, 8, job_id, 8, line),
            text(given_name),
            text(family_name),
            text(company),
            texts(tags),
            three_texts(first and first[0], second and second[0], third and third[0]),
            three_texts(first and first[1], second and second[1], third and third[1]),
            text(external_id),
        )
    made.append(TRAILER)
    return memoryview(b"".join(made))


def _records(job_id: int, rows: Iterable[StagedRow]) -> Iterator[tuple[Any, ...]]:
    for line, given_name, family_name, company, tags, identities, external_id, statuses in rows:
        first, second, third = identities
        yield (
            job_id,
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


async def keep_refusals(
    connection: asyncpg.Connection, *, job_id: int, refusals: Iterable[Refusal]
) -> None:
    """Keep what was refused, with its line and reason, for good."""
    await connection.copy_records_to_table(
        "import_rejections",
        columns=("job_id", "line", "reason", "detail"),
        records=((job_id, line, reason.value, detail) for line, reason, detail in refusals),
    )


async def set_request_hash(
    connection: asyncpg.Connection, *, job_id: int, request_hash: str
) -> None:
    """Complete the job's request, in the transaction that stores it."""
    await _sql.set_request_hash(connection, job_id=job_id, request_hash=request_hash)


async def staged(connection: asyncpg.Connection, job_id: int) -> Staged:
    """What the file of an import came to when it was submitted."""
    row = await _sql.staged(
        connection,
        job_id=job_id,
        row_reasons=[reason.value for reason in RefusalReason if reason not in CELL_REASONS],
        cell_reasons=[reason.value for reason in CELL_REASONS],
    )
    return Staged(*row)
