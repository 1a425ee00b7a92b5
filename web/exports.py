"""Lists of a job over HTTP: pages of JSON, or all of it as CSV or NDJSON in a stream."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Header, Query, Response

from db import exports
from db.exports import Form, Listing
from web.pagination import cursor_of, place_of
from web.problems import INVALID, Problem
from web.state import Here
from web.streaming import Stream

_DEFAULT_LIMIT = 1_000
_MOST_LIMIT = 5_000


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


class _Asked:
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
                le=_MOST_LIMIT,
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
        self.form = form or _most_wanted(accept)
        self.limit = limit
        self.cursor = cursor
        self.raw = raw


AskedList = Annotated[_Asked, Depends()]
"""A handler's parameter: in which form, and which page, a list is wanted."""


def _most_wanted(accept: str | None) -> Format:
    """The form that Accept likes best, of those that it names; pages where it names none."""
    wanted = [(0.0, Format.JSON)]
    for part in (accept or "").lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if form := _BY_MEDIA_TYPE.get(media_type):
            wanted.append((_quality(parameters), form))
    return max(wanted, key=lambda pair: pair[0])[1]


def _quality(parameters: list[str]) -> float:
    """How much a type is liked, from 0 to 1; what is no number counts as not at all."""
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(given) if given.replace(".", "", 1).isdecimal() else 0.0


async def answer_list(
    here: Here, listing: Listing, asked: _Asked, *, member: str, name: str
) -> Response:
    """The list as it was asked for: a page with its rows as `member`, or a file called `name`."""
    if asked.form is Format.JSON:
        return await _page(here, listing, asked, member)
    if asked.limit is not None or asked.cursor is not None:
        raise Problem(
            INVALID,
            f"limit and cursor go with pages, and {asked.form} comes whole; nothing was read."
            " Leave them out, or ask for application/json.",
        )
    return Stream(
        _whole(here, listing, asked),
        media_type=MEDIA_TYPES[asked.form],
        headers={"Content-Disposition": f'attachment; filename="{name}.{asked.form}"'},
    )


async def _page(here: Here, listing: Listing, asked: _Asked, member: str) -> Response:
    after = listing.first
    if asked.cursor is not None:
        after = place_of(asked.cursor, *map(type, listing.first))
    async with here.pool.acquire() as connection:
        page = await listing.page(
            connection, form=Form.JSON, after=after, most=asked.limit or _DEFAULT_LIMIT
        )
    following = None if page.following is None else cursor_of(*page.following)
    # Postgres has written the rows; no line break is within one.
    rows = page.lines.rstrip("\n").replace("\n", ",")
    return Response(
        f'{{"{member}":[{rows}],"next":{json.dumps(following)}}}',
        media_type=MEDIA_TYPES[Format.JSON],
    )


async def _whole(here: Here, listing: Listing, asked: _Asked) -> AsyncGenerator[str, None]:
    form = Form.JSON
    if asked.form is Format.CSV:
        yield ",".join(listing.columns) + "\n"
        form = Form.RAW_CSV if asked.raw else Form.CSV
    async with aclosing(exports.pages(here.pool, listing, form=form)) as pages:
        async for page in pages:
            yield page.lines
