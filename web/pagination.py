"""Cursors: where the next page begins, in a form that callers hand back and do not read."""

import base64
import json
from typing import Annotated, Any

from fastapi import Query

from schemas.requests import MAX_ID
from web.number_params import WRITTEN_NUMBER
from web.problems import INVALID, Problem

Limit = Annotated[int, Query(ge=1, le=1000, description="How many, at most."), WRITTEN_NUMBER]
"""A parameter of routes that give pages: as many rows a page has."""

Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]
"""A parameter of routes that give pages: where the page begins; from the beginning if None."""


def cursor_of(*place: int | str) -> str:
    """The cursor of the page that begins after this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()


def place_of(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The place that the cursor stands for: numbers, and members of enums of text.

    Raises Problem for what no page of this list has given.
    """
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(place, list):
            raise _no_cursor()
        return tuple(_part(part, kind) for part, kind in zip(place, kinds, strict=True))
    except (ValueError, RecursionError):
        raise _no_cursor() from None


def _part(part: object, kind: type) -> Any:
    """Raises ValueError for what is not of the kind."""
    if kind is not int:
        return kind(part)
    if type(part) is not int or not -MAX_ID - 1 <= part <= MAX_ID:
        raise ValueError
    return part


def _no_cursor() -> Problem:
    return Problem(
        INVALID,
        "Invalid cursor. Nothing was read. Send `next` of the page before as it came, or leave the"
        " cursor out to begin again.",
    )
