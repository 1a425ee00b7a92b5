"""What a caller is told when a request cannot be read, or Postgres does not answer."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from db.errors import CONNECTION_ERRORS, CONTENTION_ERRORS, TRANSIENT_ERRORS
from producers.invalid_request import MAX_FIELD_ERRORS
from schemas.errors import SluiceError
from schemas.field_errors import describe_error, describe_path, shorten
from web import problems
from web.problems import (
    RETRY_SECONDS,
    Problem,
    ProblemKind,
    ProblemResponse,
    build_problem_response,
    handle_sluice_error,
    to_problem,
)
from web.request_body import not_utf_8_problem

_QUOTED_LOCATIONS = ("body", "query")
"""Where a wrong value may be repeated to who gave it: never a header or a path, which have keys and
tokens in them."""


def add_error_handlers(app: FastAPI) -> None:
    """Let every failure that is foreseen be answered by a problem."""
    app.add_exception_handler(SluiceError, handle_sluice_error)
    app.add_exception_handler(RequestValidationError, handle_validation_error)
    app.add_exception_handler(HTTPException, handle_http_exception)  # type: ignore[arg-type]
    for family in (*TRANSIENT_ERRORS, *CONNECTION_ERRORS):
        assert issubclass(family, Exception)
        app.add_exception_handler(family, handle_database_error)
    app.add_exception_handler(ClientDisconnect, handle_disconnect)  # type: ignore[arg-type]


async def handle_database_error(request: Request, error: Exception) -> ProblemResponse:
    """Handle errors of the driver: no connection, a broken one, or contention that lasted
    too long.
    """
    monitor = getattr(request.app.state, "server_monitor", None)
    if monitor is not None and not isinstance(error, CONTENTION_ERRORS):
        monitor.check_database_soon()
    return build_problem_response(database_problem(error))


def database_problem(error: BaseException) -> Problem:
    """Convert an error of the database into a problem for the caller."""
    why = (
        "The rows are locked by another transaction."
        if isinstance(error, CONTENTION_ERRORS)
        else "Postgres does not answer."
    )
    return unavailable_problem(why)


def unavailable_problem(why: str) -> Problem:
    """Make the problem of a temporary outage, which says when to try again."""
    return Problem(
        problems.UNAVAILABLE,
        f"{why} The request was done completely or not at all. With the same Idempotency-Key it is"
        " safe to send it again.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


async def handle_disconnect(_request: Request, _error: Exception) -> None:
    """Do nothing: no client is left to answer."""


async def handle_validation_error(request: Request, error: Exception) -> ProblemResponse:
    """Handle FastAPI's validation errors of a request."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        return build_problem_response(_unreadable_body_problem("it is not JSON"))
    if _has_wrong_media_type(request, error):
        return build_problem_response(_media_type_problem())
    mistakes = [_build_error(mistake) for mistake in found[:MAX_FIELD_ERRORS]]
    more = len(found) - len(mistakes)
    lines = [_describe_error(mistake["location"], mistake["message"]) for mistake in mistakes]
    lines += [f"There are {more:,} more mistakes."] * bool(more)
    told = "".join(f"\n  {line}" for line in lines)
    return build_problem_response(
        Problem(
            problems.INVALID,
            f"The request was refused and nothing was done:{told}",
            errors=mistakes,
        )
    )


def _has_wrong_media_type(request: Request, error: RequestValidationError) -> bool:
    """Return whether FastAPI has left the body as it was, since it is not of the type
    that is read.
    """
    if isinstance(error.body, FormData):
        sent = request.headers.get("content-type", "")
        return not sent.startswith(("multipart/form-data", "application/x-www-form-urlencoded"))
    return isinstance(error.body, bytes)


def _describe_error(where: str, message: str) -> str:
    """Describe the error for people; `where` is for programs."""
    part, _, rest = where.partition(".")
    place = describe_path(rest) if rest else "the body" if part == "body" else ""
    of_part = {"query": "the query parameter ", "header": "the header ", "path": "the path's "}
    return f"{of_part.get(part, '')}{place}: {message}" if place else message


def _build_error(mistake: Any) -> dict[str, str]:
    where = ".".join(shorten(str(part)) for part in mistake["loc"])
    return {
        "location": where,
        "message": describe_error(mistake, quoting=mistake["loc"][0] in _QUOTED_LOCATIONS),
    }


async def handle_http_exception(request: Request, error: Exception) -> Response | None:
    """Handle Starlette's errors: unknown paths and methods, malformed bodies.

    FastAPI converts errors raised while it reads the body into these, too.
    """
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ClientDisconnect):
        return None
    return build_problem_response(_http_problem(request, error))


def _http_problem(request: Request, error: HTTPException) -> Problem:
    if isinstance(error.__cause__, SluiceError):
        return to_problem(error.__cause__)
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return unknown_path_problem()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return _method_not_allowed_problem(request)
        case HTTPStatus.BAD_REQUEST if isinstance(error.__cause__, UnicodeDecodeError):
            return not_utf_8_problem("The request")
        case HTTPStatus.BAD_REQUEST:
            return _unreadable_body_problem(_why_unreadable(error))
        case _:
            return _generic_problem(error)


def unknown_path_problem() -> Problem:
    """Make the problem that no such path exists."""
    return Problem(
        problems.NOT_FOUND,
        "There is nothing at this path. Nothing was done. /openapi.json lists all paths.",
    )


def _method_not_allowed_problem(request: Request) -> Problem:
    path = request.scope["route"].path
    # Several routes may share a path, and Starlette names the methods of one.
    routes = (route for route in iter_route_contexts(request.app.routes) if route.path == path)
    allow = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return Problem(
        problems.METHOD_NOT_ALLOWED,
        f"This path does not take {shorten(request.method)}. Nothing was done. Use {allow}.",
        headers={"Allow": allow},
    )


def _unreadable_body_problem(why: str) -> Problem:
    return Problem(
        problems.MALFORMED, f"The body cannot be read: {why}. Nothing was stored. Send it whole."
    )


def _why_unreadable(error: HTTPException) -> str:
    if isinstance(error.__cause__, RecursionError):
        return "its lists and objects are nested too deep"
    return str(error.detail).rstrip(".")


def _media_type_problem() -> Problem:
    return Problem(
        problems.UNSUPPORTED_MEDIA_TYPE,
        "The body is of a type that is not accepted here. Nothing was stored. Send a type that"
        " /openapi.json lists for this path, and name it in Content-Type.",
    )


def _generic_problem(error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    kind = ProblemKind(status.phrase.lower().replace(" ", "-"), status, status.phrase)
    return Problem(kind, str(error.detail), headers=dict(error.headers or {}))
