"""Export a job's results, import rejections and unprocessed items, page by page.

Postgres writes the lines. Pages go by key, so no transaction stays open while a client reads. A
connection is held, and memory is needed, for one page only.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from db.queries import load
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome
from schemas.requests import MAX_ID

_sql = load("exports")

ROWS_PER_PAGE = 5_000
MAX_SCANNED_ROWS = 100_000
"""The most results that a page with a filter scans."""

CHUNKS_PER_PAGE = 10

CSV_COLUMNS = (
    *("contact_id", "field", "address", "outcome", "reason", "from_status", "to_status"),
    *("cause", "source_address", "decided_at", "error"),
)
"""The columns of a job's results in CSV."""

Cursor: TypeAlias = tuple[int | str, ...]
"""The key of a row; the next page begins after that row."""


class ExportFormat(StrEnum):
    """The format of an export's lines."""

    CSV = "csv"
    """For spreadsheets: an apostrophe precedes text that would be run as a formula."""

    RAW_CSV = "raw_csv"
    """For programs: each text as it is stored."""

    JSON = "json"


class PageRequest(NamedTuple):
    """Which page to read: at most `limit` rows after the row with the key `after`."""

    form: ExportFormat
    after: Cursor
    limit: int

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters that all statements have."""
        return {
            "in_csv": self.form is not ExportFormat.JSON,
            "raw": self.form is ExportFormat.RAW_CSV,
            "limit": self.limit,
        }


class Page(NamedTuple):
    """Some rows, each as a line with its line break; `next_cursor` is None on the last page.

    A page may have fewer rows than requested, or none, without being the last.
    """

    lines: str
    rows: int
    next_cursor: Cursor | None

    def objects(self) -> list[dict[str, Any]]:
        """Parse the lines of `ExportFormat.JSON` into a dict for each row."""
        return [json.loads(line) for line in self.lines.split("\n") if line]


@dataclass(frozen=True, slots=True)
class Export:
    """A list about one job.

    `columns` are those of the CSV, `start` is the cursor of the first page, and `read_page` reads
    a page. A page has more rows than requested if one line of a file has several.
    """

    columns: tuple[str, ...]
    start: Cursor
    read_page: Callable[[asyncpg.Connection, PageRequest], Awaitable[Page]]


def export_results(
    job: JobKey,
    *,
    outcome: Outcome | None = None,
    reason: str | None = None,
    cause: Cause | None = None,
) -> Export:
    """Return the export of the job's results, in order of item and field."""
    # Rejected results have an index of their own, so reading them needs no filter.
    rejected = outcome is Outcome.REJECTED
    filters = {"outcome": outcome, "reason": reason, "cause": cause}
    is_filtered = any((outcome and not rejected, reason is not None, cause))

    async def read_page(connection: asyncpg.Connection, request: PageRequest) -> Page:
        scanned: dict[str, Any] = {
            **job._asdict(),
            "rejected": rejected,
            "max_scanned": MAX_SCANNED_ROWS if is_filtered else request.limit,
            **dict(zip(("after_item", "after_field", "after_cause"), request.after, strict=True)),
        }
        lines, rows, *last = await _sql.results_page(
            connection, **scanned, **filters, **request.parameters
        )
        if rows == request.limit:
            return Page(lines, rows, (*last,))
        end = await _sql.results_scanned_to(connection, **scanned) if is_filtered else None
        return Page(lines, rows, tuple(end) if end else None)

    return Export(CSV_COLUMNS, (-MAX_ID - 1, 0, Cause.DIRECT), read_page)


def export_unprocessed_contacts(job: JobKey) -> Export:
    """Return the export of the contacts of pending chunks, in order of the chunks."""

    async def read_page(connection: asyncpg.Connection, request: PageRequest) -> Page:
        chunk_no, place = request.after
        row = await _sql.unprocessed_page(
            connection,
            **job._asdict(),
            after_chunk=chunk_no,
            after_place=place,
            chunks=CHUNKS_PER_PAGE,
            **request.parameters,
        )
        next_cursor = None
        if row["rows"] == request.limit:
            next_cursor = (row["chunk_no"], row["place"])
        elif row["chunks"] == CHUNKS_PER_PAGE:
            next_cursor = (row["last_chunk"], MAX_ID)
        return Page(row["lines"], row["rows"], next_cursor)

    return Export(("contact_id",), (-1, 0), read_page)


def export_unprocessed_rows(job: JobKey) -> Export:
    """Return the export of an import's rows that are not processed, as lines of its file."""
    return _export_numbered(job, ("line",), _sql.unprocessed_lines_page)


def export_unprocessed_addresses(job: JobKey) -> Export:
    """Return the export of the listed addresses that are not processed."""
    return _export_numbered(job, ("address",), _sql.unprocessed_addresses_page)


def export_import_rejections(job: JobKey) -> Export:
    """Return the export of the import rejections of the job's file, in the order of the file."""
    return _export_numbered(job, ("line", "reason", "detail"), _sql.rejections_page)


def _export_numbered(job: JobKey, columns: tuple[str, ...], statement: Any) -> Export:
    """Return the export of a list in the order of one number; `statement` reads its pages."""

    async def read_page(connection: asyncpg.Connection, request: PageRequest) -> Page:
        rows, last, lines = await statement(
            connection, **job._asdict(), after=request.after[0], **request.parameters
        )
        return Page(lines, rows, (last,) if rows >= request.limit else None)

    return Export(columns, (-1,), read_page)


async def stream_pages(
    pool: asyncpg.Pool, listing: Export, *, form: ExportFormat, limit: int | None = None
) -> AsyncGenerator[Page, None]:
    """Yield the list page by page from its beginning: all of it, or the first `limit` rows.

    While the caller uses a page, the next one is read. Close the iterator: an abandoned one can
    hold a connection until it is garbage collected.
    """

    def start_reading(after: Cursor | None) -> asyncio.Task[Page] | None:
        if after is None or (limit is not None and limit <= 0):
            return None
        size = ROWS_PER_PAGE if limit is None else min(limit, ROWS_PER_PAGE)
        return asyncio.create_task(_read_page(pool, listing, PageRequest(form, after, size)))

    reading = start_reading(listing.start)
    try:
        while reading is not None:
            page = await reading
            limit = None if limit is None else limit - page.rows
            reading = start_reading(page.next_cursor)
            yield page
    finally:
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _read_page(pool: asyncpg.Pool, listing: Export, request: PageRequest) -> Page:
    async with pool.acquire() as connection:
        return await listing.read_page(connection, request)
