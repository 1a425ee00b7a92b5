"""Cursors: opaque texts that say where the next page begins."""

import base64
import json
from typing import Annotated, Any

from fastapi import Query

from schemas.requests import MAX_ID
from web.params import QUERY_NUMBER
from web.problems import INVALID, Problem

Limit = Annotated[
    int, Query(ge=1, le=1000, description="The maximum number of rows of a page."), QUERY_NUMBER
]
"""A parameter of routes that return pages: the size of a page."""

Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the previous page.")]
"""A parameter of routes that return pages: where the page begins; None for the first page."""


def encode_cursor(*place: int | str) -> str:
    """Return the cursor of the page that begins after this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """Return the place of the cursor: numbers, and members of text enums.

    Raise Problem if no page of this list has this cursor.
    """
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(place, list):
            raise _invalid_cursor()
        return tuple(_decode_part(part, kind) for part, kind in zip(place, kinds, strict=True))
    except (ValueError, RecursionError):
        raise _invalid_cursor() from None


def decode_id_cursor(cursor: str | None, *, first: int) -> int:
    """Return the id of the cursor; `first` without a cursor."""
    return first if cursor is None else int(decode_cursor(cursor, int)[0])


def _decode_part(part: object, kind: type) -> Any:
    if kind is not int:
        return kind(part)
    if type(part) is not int or not -MAX_ID - 1 <= part <= MAX_ID:
        raise ValueError
    return part


def _invalid_cursor() -> Problem:
    return Problem(
        INVALID,
        "Invalid cursor. Nothing was read. Send the unchanged `next` of the previous page, or leave"
        " the cursor out to begin again.",
    )
