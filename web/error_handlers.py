"""What a caller is told when a request cannot be read, or Postgres does not answer."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from db.errors import IN_THE_WAY, NOT_THE_WORKS_FAULT, UNREACHABLE
from producers.invalid_request import MOST_COMPLAINTS
from schemas.errors import SluiceError
from schemas.field_errors import place_for_people, sentence, shortened
from web import problems
from web.problems import (
    RETRY_SECONDS,
    Kind,
    Problem,
    ProblemResponse,
    on_sluice_error,
    problem_of,
    problem_response,
)
from web.request_body import not_utf_8

_QUOTED = ("body", "query")
"""Where a wrong value may be repeated to who gave it: never a header or a path, which have keys and
tokens in them."""


def add_handlers(app: FastAPI) -> None:
    """Let every failure that is foreseen be answered by a problem."""
    app.add_exception_handler(SluiceError, on_sluice_error)
    app.add_exception_handler(RequestValidationError, on_wrong_request)
    app.add_exception_handler(HTTPException, on_http_exception)  # type: ignore[arg-type]
    for family in (*NOT_THE_WORKS_FAULT, *UNREACHABLE):
        assert issubclass(family, Exception)
        app.add_exception_handler(family, on_database_away)
    app.add_exception_handler(ClientDisconnect, on_caller_gone)  # type: ignore[arg-type]


async def on_database_away(request: Request, error: Exception) -> ProblemResponse:
    """For what the driver raises when the connection cannot be had or broke, or others were in the
    way for too long.
    """
    watch = getattr(request.app.state, "watch", None)
    if watch is not None and not isinstance(error, IN_THE_WAY):
        watch.suspect_database()
    return problem_response(database_away(error))


def database_away(error: BaseException) -> Problem:
    """What such an error is to the caller."""
    why = (
        "The rows are locked by another transaction."
        if isinstance(error, IN_THE_WAY)
        else "Postgres does not answer."
    )
    return unavailable(why)


def unavailable(why: str) -> Problem:
    """That it is a moment's trouble, and what can be done."""
    return Problem(
        problems.UNAVAILABLE,
        f"{why} The request was done completely or not at all. With the same Idempotency-Key it is"
        " safe to send it again.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


async def on_caller_gone(_request: Request, _error: Exception) -> None:
    """Nobody is there to be told anything."""


async def on_wrong_request(request: Request, error: Exception) -> ProblemResponse:
    """For what FastAPI says of a request that does not fit its route."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        return problem_response(_unreadable("it is not JSON"))
    if _is_of_another_type(request, error):
        return problem_response(_unsupported())
    mistakes = [_mistake(mistake) for mistake in found[:MOST_COMPLAINTS]]
    more = len(found) - len(mistakes)
    lines = [_line(mistake["where"], mistake["message"]) for mistake in mistakes]
    lines += [f"There are {more:,} more mistakes."] * bool(more)
    told = "".join(f"\n  {line}" for line in lines)
    return problem_response(
        Problem(
            problems.INVALID,
            f"The request was refused and nothing was done:{told}",
            mistakes=mistakes,
        )
    )


def _is_of_another_type(request: Request, error: RequestValidationError) -> bool:
    """Whether FastAPI has left the body as it was, since it is not of the type that is read."""
    if isinstance(error.body, FormData):
        sent = request.headers.get("content-type", "")
        return not sent.startswith(("multipart/form-data", "application/x-www-form-urlencoded"))
    return isinstance(error.body, bytes)


def _line(where: str, message: str) -> str:
    """The mistake for people; `where` is for programs."""
    part, _, rest = where.partition(".")
    place = place_for_people(rest) if rest else "the body" if part == "body" else ""
    of_part = {"query": "the query parameter ", "header": "the header ", "path": "the path's "}
    return f"{of_part.get(part, '')}{place}: {message}" if place else message


def _mistake(mistake: Any) -> dict[str, str]:
    where = ".".join(shortened(str(part)) for part in mistake["loc"])
    return {"where": where, "message": sentence(mistake, quoting=mistake["loc"][0] in _QUOTED)}


async def on_http_exception(request: Request, error: Exception) -> Response | None:
    """For what Starlette raises: paths and methods that there are not, bodies that are malformed.

    FastAPI makes it of what was raised while it read the body, too.
    """
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ClientDisconnect):
        return None
    return problem_response(_problem_of(request, error))


def _problem_of(request: Request, error: HTTPException) -> Problem:
    if isinstance(error.__cause__, SluiceError):
        return problem_of(error.__cause__)
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return nothing_here()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return _not_allowed(request)
        case HTTPStatus.BAD_REQUEST if isinstance(error.__cause__, UnicodeDecodeError):
            return not_utf_8("The request")
        case HTTPStatus.BAD_REQUEST:
            return _unreadable(_why_unreadable(error))
        case _:
            return _as_it_is(error)


def nothing_here() -> Problem:
    """That there is no such path."""
    return Problem(
        problems.NOT_FOUND,
        "There is nothing at this path. Nothing was done. /openapi.json lists all paths.",
    )


def _not_allowed(request: Request) -> Problem:
    path = request.scope["route"].path
    # Several routes may share a path, and Starlette names the methods of one.
    routes = (route for route in iter_route_contexts(request.app.routes) if route.path == path)
    allow = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return Problem(
        problems.METHOD_NOT_ALLOWED,
        f"This path does not take {shortened(request.method)}. Nothing was done. Use {allow}.",
        headers={"Allow": allow},
    )


def _unreadable(why: str) -> Problem:
    return Problem(
        problems.MALFORMED, f"The body cannot be read: {why}. Nothing was stored. Send it whole."
    )


def _why_unreadable(error: HTTPException) -> str:
    if isinstance(error.__cause__, RecursionError):
        return "its lists and objects are nested too deep"
    return str(error.detail).rstrip(".")


def _unsupported() -> Problem:
    return Problem(
        problems.UNSUPPORTED,
        "The body is of a type that is not accepted here. Nothing was stored. Send a type that"
        " /openapi.json lists for this path, and name it in Content-Type.",
    )


def _as_it_is(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    kind = Kind(status.phrase.lower().replace(" ", "-"), status, status.phrase)
    return Problem(kind, str(error.detail), headers=dict(error.headers or {}))
