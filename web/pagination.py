"""Cursors: where the next page begins, in a form that callers hand back and do not read."""

import base64
import json
from typing import Annotated, Any

from fastapi import Query

from schemas.requests import MAX_ID
from web.number_params import QUERY_NUMBER
from web.problems import INVALID, Problem

Limit = Annotated[int, Query(ge=1, le=1000, description="How many, at most."), QUERY_NUMBER]
"""A parameter of routes that give pages: as many rows a page has."""

Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
"""A parameter of routes that give pages: where the page begins; from the beginning if None."""


def encode_cursor(*place: int | str) -> str:
    """Make the cursor of the page that begins after this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """Decode a cursor into its place: numbers, and members of text enums.

    Raises Problem for a cursor that no page of this list has given.
    """
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(place, list):
            raise _invalid_cursor()
        return tuple(_decode_part(part, kind) for part, kind in zip(place, kinds, strict=True))
    except (ValueError, RecursionError):
        raise _invalid_cursor() from None


def _decode_part(part: object, kind: type) -> Any:
    """Convert one part of a cursor; raises ValueError if it is not of the kind."""
    if kind is not int:
        return kind(part)
    if type(part) is not int or not -MAX_ID - 1 <= part <= MAX_ID:
        raise ValueError
    return part


def _invalid_cursor() -> Problem:
    return Problem(
        INVALID,
        "Invalid cursor. Nothing was read. Send `next` of the page before as it came, or leave the"
        " cursor out to begin again.",
    )
