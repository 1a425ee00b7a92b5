"""Lists of a job: pages of JSON, or the whole list as a stream of CSV or NDJSON."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Header, Query, Response

from db import exports
from db.exports import Export, ExportFormat, PageRequest
from web.pagination import Cursor, decode_cursor, encode_cursor
from web.problems import INVALID, Problem
from web.state import AppState
from web.streaming import ClosingStreamingResponse

_DEFAULT_LIMIT = 1_000
_MAX_LIMIT = 5_000


class Format(StrEnum):
    """The format of a list."""

    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.NDJSON: "application/x-ndjson",
}
_BY_MEDIA_TYPE = {media_type: form for form, media_type in MEDIA_TYPES.items()}


@dataclass
class _ListQuery:
    """The parameters of a list: its format, and which page."""

    form: Annotated[
        Format | None,
        Query(alias="format", description="The format. `Accept` can name it instead."),
    ] = None
    limit: Annotated[
        int | None,
        Query(
            ge=1,
            le=_MAX_LIMIT,
            description=f"The maximum number of rows of a page; {_DEFAULT_LIMIT:,} by default.",
        ),
    ] = None
    cursor: Cursor = None
    accept: Annotated[
        str | None,
        Header(
            description="`application/json` gives pages; `text/csv` and `application/x-ndjson`"
            " give the whole list in one stream."
        ),
    ] = None
    raw: Annotated[
        bool,
        Query(
            description="CSV with each text as it is stored. Otherwise an apostrophe precedes"
            " what a spreadsheet would run as a formula."
        ),
    ] = False

    def __post_init__(self) -> None:
        self.format = self.form or _negotiate_format(self.accept)


ListQuery = Annotated[_ListQuery, Depends()]
"""A handler's parameter: the format of a list, and which page."""


def _negotiate_format(accept: str | None) -> Format:
    """Return the format that Accept prefers; JSON if it names none."""
    wanted = [(0.0, Format.JSON)]
    for part in (accept or "").lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if form := _BY_MEDIA_TYPE.get(media_type):
            wanted.append((_quality(parameters), form))
    return max(wanted, key=lambda pair: pair[0])[1]


def _quality(parameters: list[str]) -> float:
    """Return the quality of a media type, from 0 to 1; an invalid number counts as 0."""
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(given) if given.replace(".", "", 1).isdecimal() else 0.0


async def build_list_response(
    state: AppState, export: Export, query: _ListQuery, *, member: str, name: str
) -> Response:
    """Build the response: a page with the rows as `member`, or a file called `name`."""
    if query.format is Format.JSON:
        return await _build_page(state, export, query, member)
    if query.limit is not None or query.cursor is not None:
        raise Problem(
            INVALID,
            f"limit and cursor are for pages, and {query.format} is sent whole. Nothing was read."
            " Leave them out, or ask for application/json.",
        )
    return ClosingStreamingResponse(
        _stream_rows(state, export, query),
        media_type=MEDIA_TYPES[query.format],
        headers={"Content-Disposition": f'attachment; filename="{name}.{query.format}"'},
    )


async def _build_page(state: AppState, export: Export, query: _ListQuery, member: str) -> Response:
    after = export.start
    if query.cursor is not None:
        after = decode_cursor(query.cursor, *map(type, export.start))
    async with state.pool.acquire() as connection:
        request = PageRequest(ExportFormat.JSON, after, query.limit or _DEFAULT_LIMIT)
        page = await export.read_page(connection, request)
    next_cursor = None if page.next_cursor is None else encode_cursor(*page.next_cursor)
    # Postgres has written the rows as JSON, which has no line breaks inside.
    rows = page.lines.rstrip("\n").replace("\n", ",")
    return Response(
        f'{{"{member}":[{rows}],"next":{json.dumps(next_cursor)}}}',
        media_type=MEDIA_TYPES[Format.JSON],
    )


async def _stream_rows(
    state: AppState, export: Export, query: _ListQuery
) -> AsyncGenerator[str, None]:
    form = ExportFormat.JSON
    if query.format is Format.CSV:
        yield ",".join(export.columns) + "\n"
        form = ExportFormat.RAW_CSV if query.raw else ExportFormat.CSV
    async with aclosing(exports.stream_pages(state.pool, export, form=form)) as pages:
        async for page in pages:
            yield page.lines
