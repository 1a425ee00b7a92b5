"""What a route with a key rejects first: unknown parameters, text that cannot be stored."""

from fastapi import Request

from producers.invalid_request import is_storable, shorten
from web.openapi import get_query_parameters
from web.problems import INVALID, MALFORMED, Problem

MAX_QUERY_PARAMETERS = 100
"""No route has this many, so more must be repetitions. FastAPI would report each wrong one."""


def require_well_formed(request: Request) -> None:
    """Raise Problem for unknown query parameters, and for text that cannot be stored.

    Routes without a key ignore unknown parameters: mail systems append some to links, and
    platforms to probes. Such routes store neither parameters nor paths.
    """
    if request.scope["query_string"].count(b"&") >= MAX_QUERY_PARAMETERS:
        raise Problem(
            INVALID,
            f"The query has more than {MAX_QUERY_PARAMETERS} parameters. Nothing was done."
            " Give each value once.",
        )
    if request.query_params:
        known = get_query_parameters(request)
        if unknown := sorted(set(request.query_params) - known):
            raise _unknown_parameter_problem(unknown[:3], known)
    query = (part for pair in request.query_params.items() for part in pair)
    if not all(map(is_storable, [request.scope["path"], *query])):
        raise Problem(
            MALFORMED,
            "The request was rejected and nothing was stored. The URL has a NUL character or an"
            " unpaired surrogate.",
        )


def _unknown_parameter_problem(unknown: list[str], known: frozenset[str]) -> Problem:
    advice = f"Use: {', '.join(sorted(known))}." if known else "This path has no parameters."
    named = ", ".join(shorten(repr(name)) for name in unknown)
    return Problem(
        INVALID,
        f"The request was rejected and nothing was done. Unknown query parameter: {named}."
        f" {advice}",
        errors=[
            {"location": f"query.{shorten(name)}", "message": "This parameter does not exist."}
            for name in unknown
        ],
    )
