"""What became of a job, as lists of any length: pages of lines that Postgres has written.

Pages go by key: no transaction, and so no snapshot, stays open while a client reads. A connection
is taken for one page at a time, memory is bounded by a page, and no row is touched in Python.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

import asyncpg

from db.queries import load
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome
from schemas.requests import MAX_ID

_sql = load("exports")

ROWS_PER_PAGE = 5_000
MAX_SCANNED_ROWS = 100_000
"""So many results are looked through for those that were asked for, and no more for a page."""

CHUNKS_PER_PAGE = 10

Cursor: TypeAlias = tuple[int | str, ...]
"""Where a page begins: after the row with this key."""


class ExportFormat(StrEnum):
    """How the lines of a list are written."""

    CSV = "csv"
    """As a spreadsheet may open it: no text begins like a formula."""

    RAW_CSV = "raw_csv"
    """As a program may read it: each text as it is stored."""

    JSON = "json"

    @property
    def sql_parameters(self) -> dict[str, bool]:
        """The parameters by which the statements know it."""
        return {"in_csv": self is not ExportFormat.JSON, "raw": self is ExportFormat.RAW_CSV}


class Page(NamedTuple):
    """So many rows as lines, each with its end; `next_cursor` is None where nothing can follow.

    A page may have fewer rows than were asked for, or none, and yet not be the last.
    """

    lines: str
    rows: int
    next_cursor: Cursor | None

    def objects(self) -> list[dict[str, Any]]:
        """Parse the page's JSON into one dict for each row."""
        return [json.loads(line) for line in self.lines.split("\n") if line]


class Export(Protocol):
    """A list of one job."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its CSV."""
        ...

    @property
    def start(self) -> Cursor:
        """Where its first page begins."""
        ...

    async def page(
        self, connection: asyncpg.Connection, *, form: ExportFormat, after: Cursor, limit: int
    ) -> Page:
        """Read up to `limit` rows after the place `after`."""
        ...


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a job, in order of item and field."""

    columns = (
        *("contact_id", "field", "address", "outcome", "reason", "from_status", "to_status"),
        *("cause", "source_address", "decided_at", "error"),
    )
    start = (-MAX_ID - 1, 0, Cause.DIRECT)

    job: JobKey
    outcome: Outcome | None = None
    reason: str | None = None
    cause: Cause | None = None

    async def page(
        self, connection: asyncpg.Connection, *, form: ExportFormat, after: Cursor, limit: int
    ) -> Page:
        """Read up to `limit` results. Rejected ones have an index of their own."""
        rejected = self.outcome is Outcome.REJECTED
        filters = (None if rejected else self.outcome, self.reason, self.cause)
        narrowed = any(value is not None for value in filters)
        place: dict[str, Any] = {
            **self.job._asdict(),
            "rejected": rejected,
            "looked_at": MAX_SCANNED_ROWS if narrowed else limit,
            **dict(zip(("after_item", "after_field", "after_cause"), after, strict=True)),
        }
        lines, rows, *last = await _sql.results_page(
            connection,
            **place,
            outcome=self.outcome,
            reason=self.reason,
            cause=self.cause,
            **form.sql_parameters,
            limit=limit,
        )
        if rows == limit:
            return Page(lines, rows, (*last,))
        end = await _sql.results_scanned_to(connection, **place) if narrowed else None
        return Page(lines, rows, tuple(end) if end else None)


@dataclass(frozen=True, slots=True)
class Unprocessed:
    """The contacts whose chunks were not worked, in chunks' order."""

    columns = ("contact_id",)
    start = (-1, 0)

    job: JobKey

    async def page(
        self, connection: asyncpg.Connection, *, form: ExportFormat, after: Cursor, limit: int
    ) -> Page:
        """Read up to `limit` rows from at most `CHUNKS_PER_PAGE` chunks."""
        chunk_no, place = after
        row = await _sql.unprocessed_page(
            connection,
            **self.job._asdict(),
            after_chunk=chunk_no,
            after_place=place,
            chunks=CHUNKS_PER_PAGE,
            **form.sql_parameters,
            limit=limit,
        )
        next_cursor = None
        if row["rows"] == limit:
            next_cursor = (row["chunk_no"], row["place"])
        elif row["chunks"] == CHUNKS_PER_PAGE:
            next_cursor = (row["last_chunk"], MAX_ID)
        return Page(row["lines"], row["rows"], next_cursor)


@dataclass(frozen=True, slots=True)
class _NumberedExport:
    """A list in the order of one number, by the statement that has its pages."""

    job: JobKey
    columns: tuple[str, ...]
    statement: Any
    start: Cursor = (-1,)

    async def page(
        self, connection: asyncpg.Connection, *, form: ExportFormat, after: Cursor, limit: int
    ) -> Page:
        """Read up to `limit` rows, or more if several belong to one line of a file."""
        row = await self.statement(
            connection,
            **self.job._asdict(),
            after=after[0],
            limit=limit,
            **form.sql_parameters,
        )
        return Page(row["lines"], row["rows"], (row["last"],) if row["rows"] >= limit else None)


def unprocessed_lines(job: JobKey) -> Export:
    """List the lines of an import's file whose rows have not become contacts."""
    return _NumberedExport(job, ("line",), _sql.unprocessed_lines_page)


def unprocessed_addresses(job: JobKey) -> Export:
    """Those of the addresses which a job lists that it did not come to."""
    return _NumberedExport(job, ("address",), _sql.unprocessed_addresses_page)


def rejections(job: JobKey) -> Export:
    """List what was left out of the job's file, in the order of the file."""
    return _NumberedExport(job, ("line", "reason", "detail"), _sql.rejections_page)


async def stream_pages(
    pool: asyncpg.Pool, listing: Export, *, form: ExportFormat, limit: int | None = None
) -> AsyncGenerator[Page, None]:
    """Yield the list page by page from its beginning: all of it, or the first `limit` rows.

    While a page is used, the next one is fetched, and no more than that one. Close the iterator: an
    abandoned one can hold a connection until it is garbage collected.
    """
    fetching = _fetch(pool, listing, form, listing.start, limit)
    try:
        while fetching is not None:
            page = await fetching
            limit = None if limit is None else limit - page.rows
            fetching = _fetch(pool, listing, form, page.next_cursor, limit)
            yield page
    finally:
        if fetching is not None:
            fetching.cancel()
            with suppress(asyncio.CancelledError):
                await fetching


def _fetch(
    pool: asyncpg.Pool, listing: Export, form: ExportFormat, after: Cursor | None, limit: int | None
) -> asyncio.Task[Page] | None:
    if after is None or (limit is not None and limit <= 0):
        return None
    size = ROWS_PER_PAGE if limit is None else min(limit, ROWS_PER_PAGE)

    async def fetch() -> Page:
        async with pool.acquire() as connection:
            return await listing.page(connection, form=form, after=after, limit=size)

    return asyncio.create_task(fetch())
