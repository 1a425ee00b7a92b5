"""What no route takes, looked for in one place before any of them begins."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

from fastapi import Request

from producers.invalid_request import is_storable, shorten
from schemas.requests import MAX_ID
from web.openapi import get_query_parameters
from web.problems import INVALID, MALFORMED, Problem
from web.request_body import MAX_JSON_DEPTH

MAX_QUERY_PARAMETERS = 100
"""More in one query repeat themselves, and each that is wrong would be a mistake to tell."""

_TOO_MANY_PARAMETERS = (
    f"The query has more than {MAX_QUERY_PARAMETERS} parameters. Nothing was done."
    " Give each value once."
)


async def require_well_formed(request: Request) -> None:
    """Check the request of any route; a dependency of all of them.

    Raises Problem for undocumented query parameters, and for texts that can be sent but neither
    stored nor sent back. Links in mail and platforms' probes get parameters added in transit:
    routes without a key ignore them, and store nothing of them or of the path.
    """
    known = get_query_parameters(request)
    texts: list[str] = []
    if known is not None:
        if request.scope["query_string"].count(b"&") >= MAX_QUERY_PARAMETERS:
            raise Problem(INVALID, _TOO_MANY_PARAMETERS)
        if unknown := sorted(set(request.query_params) - known):
            raise _unknown_parameter_problem(unknown, known)
        query = (part for pair in request.query_params.items() for part in pair)
        texts = [request.scope["path"], *query]
    if why := next((why for text in texts for why in _find_unstorable_text(text)), None):
        raise Problem(MALFORMED, f"The request was refused and nothing was stored. It has {why}.")


def _unknown_parameter_problem(unknown: list[str], known: frozenset[str]) -> Problem:
    there_are = f"There are: {', '.join(sorted(known))}." if known else "There are none here."
    named = ", ".join(shorten(repr(name)) for name in unknown[:3])
    return Problem(
        INVALID,
        f"The request was refused and nothing was done. There is no query parameter {named}."
        f" {there_are}",
        errors=[
            {"location": f"query.{shorten(name)}", "message": "There is no such parameter."}
            for name in unknown[:3]
        ],
    )


def find_unstorable(value: Any) -> str | None:
    """Return what is not accepted in a JSON value; None if all is accepted."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        deeper: list[Any] = []
        for item in level:
            if why := next(_find_unstorable_item(item), None):
                return why
            if isinstance(item, dict):
                deeper += item
                deeper += item.values()
            elif isinstance(item, list):
                deeper += item
        if not deeper:
            return None
        level = deeper
    return f"more than {MAX_JSON_DEPTH} levels of lists and objects in each other"


def _find_unstorable_item(item: Any) -> Iterator[str]:
    if isinstance(item, str):
        yield from _find_unstorable_text(item)
    elif isinstance(item, int):
        if not -MAX_ID <= item <= MAX_ID:
            yield "a whole number of more than 64 bits"
    elif isinstance(item, float) and not isfinite(item):
        yield "a number that is NaN or infinite"


def _find_unstorable_text(text: str) -> Iterator[str]:
    if not is_storable(text):
        yield "a NUL character or an unpaired surrogate in a text"
