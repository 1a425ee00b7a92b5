"""Lists of a job over HTTP: pages of JSON, or all of it as CSV or NDJSON in a stream."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Header, Query, Response

from db import exports
from db.exports import Export, ExportFormat
from web.pagination import decode_cursor, encode_cursor
from web.problems import INVALID, Problem
from web.state import AppState
from web.streaming import ClosingStreamingResponse

_DEFAULT_LIMIT = 1_000
_MAX_LIMIT = 5_000


class Format(StrEnum):
    """How a list is sent."""

    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.NDJSON: "application/x-ndjson",
}
_BY_MEDIA_TYPE = {media_type: form for form, media_type in MEDIA_TYPES.items()}


class _ListQuery:
    """What a caller says of the list that is wanted."""

    def __init__(
        self,
        form: Annotated[
            Format | None,
            Query(alias="format", description="How it is sent; Accept says it as well."),
        ] = None,
        limit: Annotated[
            int | None,
            Query(
                ge=1,
                le=_MAX_LIMIT,
                description=f"Of pages: how many rows, at most; {_DEFAULT_LIMIT:,} where nothing is"
                " said.",
            ),
        ] = None,
        cursor: Annotated[
            str | None, Query(max_length=200, description="Of pages: `next` of the one before.")
        ] = None,
        accept: Annotated[
            str | None,
            Header(
                description="`application/json` gives pages; `text/csv` and `application/x-ndjson`"
                " give all of it in one stream, of any length."
            ),
        ] = None,
        *,
        raw: Annotated[
            bool,
            Query(
                description="Of CSV: each text as it is stored. Otherwise an apostrophe comes"
                " before what a spreadsheet would run as a formula."
            ),
        ] = False,
    ) -> None:
        self.form = form or _negotiate_format(accept)
        self.limit = limit
        self.cursor = cursor
        self.raw = raw


ListQuery = Annotated[_ListQuery, Depends()]
"""A handler's parameter: in which form, and which page, a list is wanted."""


def _negotiate_format(accept: str | None) -> Format:
    """Return the format that Accept prefers; pages if it names none of them."""
    wanted = [(0.0, Format.JSON)]
    for part in (accept or "").lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if form := _BY_MEDIA_TYPE.get(media_type):
            wanted.append((_quality(parameters), form))
    return max(wanted, key=lambda pair: pair[0])[1]


def _quality(parameters: list[str]) -> float:
    """Return the weight (`q`) of a media range, from 0 to 1."""
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(given) if given.replace(".", "", 1).isdecimal() else 0.0


async def build_list_response(
    state: AppState, listing: Export, query: _ListQuery, *, member: str, name: str
) -> Response:
    """Answer with the list as requested: a page with its rows as `member`, or a file `name`."""
    if query.form is Format.JSON:
        return await _build_page(state, listing, query, member)
    if query.limit is not None or query.cursor is not None:
        raise Problem(
            INVALID,
            f"limit and cursor go with pages, and {query.form} comes whole; nothing was read."
            " Leave them out, or ask for application/json.",
        )
    return ClosingStreamingResponse(
        _stream_rows(state, listing, query),
        media_type=MEDIA_TYPES[query.form],
        headers={"Content-Disposition": f'attachment; filename="{name}.{query.form}"'},
    )


async def _build_page(state: AppState, listing: Export, query: _ListQuery, member: str) -> Response:
    after = listing.start
    if query.cursor is not None:
        after = decode_cursor(query.cursor, *map(type, listing.start))
    async with state.pool.acquire() as connection:
        page = await listing.page(
            connection, form=ExportFormat.JSON, after=after, limit=query.limit or _DEFAULT_LIMIT
        )
    next_cursor = None if page.next_cursor is None else encode_cursor(*page.next_cursor)
    # Postgres has written the rows; no line break is within one.
    rows = page.lines.rstrip("\n").replace("\n", ",")
    return Response(
        f'{{"{member}":[{rows}],"next":{json.dumps(next_cursor)}}}',
        media_type=MEDIA_TYPES[Format.JSON],
    )


async def _stream_rows(
    state: AppState, listing: Export, query: _ListQuery
) -> AsyncGenerator[str, None]:
    form = ExportFormat.JSON
    if query.form is Format.CSV:
        yield ",".join(listing.columns) + "\n"
        form = ExportFormat.RAW_CSV if query.raw else ExportFormat.CSV
    async with aclosing(exports.stream_pages(state.pool, listing, form=form)) as pages:
        async for page in pages:
            yield page.lines
