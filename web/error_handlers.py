"""Handlers that answer expected errors with problems: invalid requests, Postgres unavailable."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from db.errors import CONNECTION_USABLE_ERRORS
from producers.invalid_request import MAX_FIELD_ERRORS
from schemas.field_errors import describe_error, describe_path, shorten
from web import problems
from web.problems import (
    DATABASE_ERRORS,
    EXPECTED_ERRORS,
    Problem,
    ProblemKind,
    ProblemResponse,
    build_problem_response,
    to_problem,
)
from web.state import get_state

_PART_NAMES = {"query": "the query parameter", "header": "the header", "path": "the path's"}


def add_error_handlers(app: FastAPI) -> None:
    """Answer every expected error with a problem."""
    for family in EXPECTED_ERRORS:
        assert issubclass(family, Exception)
        app.add_exception_handler(family, _handle_error)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)  # type: ignore[arg-type]


async def _handle_error(request: Request, error: Exception) -> ProblemResponse:
    """If Postgres may not answer, have the server monitor check it."""
    if isinstance(error, DATABASE_ERRORS) and not isinstance(error, CONNECTION_USABLE_ERRORS):
        get_state(request).server_monitor.check_database_soon()
    return build_problem_response(to_problem(error, request.scope))


async def _handle_disconnect(_request: Request, _error: Exception) -> None:
    """Answer nothing: the client has left."""


async def _handle_validation_error(_request: Request, error: Exception) -> ProblemResponse:
    """Answer invalid paths, queries and headers: no route leaves its body to FastAPI."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [_build_error(each) for each in found[:MAX_FIELD_ERRORS]]
    lines = [_describe_error(**each) for each in errors]
    if more := len(found) - len(errors):
        lines.append(f"There are {more:,} more errors.")
    told = "".join(f"\n  {line}" for line in lines)
    detail = f"The request was rejected and nothing was done:{told}"
    return build_problem_response(Problem(problems.INVALID, detail, errors=errors))


def _describe_error(location: str, message: str) -> str:
    """Describe an error for people; `location` is for programs."""
    part, _, name = location.partition(".")
    # A parameter may be repeated; the message quotes the wrong value.
    name = name.partition(".")[0] if part == "query" else name
    return f"{_PART_NAMES[part]} {describe_path(name)}: {message}"


def _build_error(error: Any) -> dict[str, str]:
    return {
        "location": ".".join(shorten(str(part)) for part in error["loc"]),
        # Headers and paths may have keys and tokens in them.
        "message": describe_error(error, quoting=error["loc"][0] == "query"),
    }


async def _handle_http_exception(request: Request, error: Exception) -> ProblemResponse:
    """Answer unknown paths and methods, and malformed forms."""
    assert isinstance(error, HTTPException)
    match status := HTTPStatus(error.status_code):
        case HTTPStatus.NOT_FOUND:
            problem = unknown_path_problem()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            problem = _method_not_allowed_problem(request)
        case HTTPStatus.BAD_REQUEST:
            problem = Problem(
                problems.MALFORMED,
                f"The body cannot be read: {error.detail.rstrip('.')}. Nothing was stored. Send the"
                " complete body.",
            )
        case _:
            kind = ProblemKind(status.phrase.lower().replace(" ", "-"), int(status), status.phrase)
            problem = Problem(kind, str(error.detail), headers=dict(error.headers or {}))
    return build_problem_response(problem)


def unknown_path_problem() -> Problem:
    """Build the problem for a path that does not exist."""
    return Problem(
        problems.NOT_FOUND,
        "This path does not exist. Nothing was done. /openapi.json lists all paths.",
    )


def _method_not_allowed_problem(request: Request) -> Problem:
    path = request.scope["route"].path
    # Several routes may share a path, and Starlette names the methods of one.
    routes = (route for route in iter_route_contexts(request.app.routes) if route.path == path)
    allow = ", ".join(sorted({method for route in routes for method in route.methods or ()}))
    return Problem(
        problems.METHOD_NOT_ALLOWED,
        f"This path does not allow {shorten(request.method)}. Nothing was done. Use {allow}.",
        headers={"Allow": allow},
    )
