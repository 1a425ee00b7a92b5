"""Cursors: where the next page begins, in a form that callers hand back and do not read."""

import base64
import json

from producers.http.problems import INVALID, Problem
from schemas.requests import MAX_ID

MOST_CHARACTERS = 200


def cursor_of(*place: int | str) -> str:
    """The cursor of the page that begins after this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).rstrip(b"=").decode()


def place_of(cursor: str, *kinds: type) -> list[int | str]:
    """The place that the cursor stands for, of parts of these kinds; raises Problem for others."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        raise _no_cursor() from None
    if not isinstance(place, list) or [type(part) for part in place] != list(kinds):
        raise _no_cursor()
    if any(isinstance(part, int) and not -MAX_ID - 1 <= part <= MAX_ID for part in place):
        raise _no_cursor()
    return place


def _no_cursor() -> Problem:
    return Problem(
        INVALID,
        "The cursor is none that this list has given. Send `next` of the page before as it came,"
        " or leave the cursor out to begin anew.",
    )
