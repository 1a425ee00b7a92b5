"""What a caller is told when Postgres does not answer, or the framework refuses a request."""

from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from producers.http.problems import (
    INVALID,
    MALFORMED,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    RETRY_SECONDS,
    UNAVAILABLE,
    Problem,
    problem_response,
)
from producers.wrong_input import shortened

_KINDS = {
    HTTPStatus.NOT_FOUND: (NOT_FOUND, "There is nothing at this path. /docs lists what there is."),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        METHOD_NOT_ALLOWED,
        "This path does not take that method; Allow says which it takes. Nothing was done.",
    ),
}


async def on_database_away(_request: Request, _error: Exception) -> JSONResponse:
    """FastAPI's handler for what the driver raises when the connection cannot be had or broke."""
    return problem_response(
        Problem(
            UNAVAILABLE,
            "Postgres does not answer. What was asked is done wholly or not at all; with the same"
            " Idempotency-Key it is safe to ask again.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    )


async def on_wrong_parameters(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for a parameter of the path, the query or a header that cannot be used."""
    assert isinstance(error, RequestValidationError)
    mistakes = "".join(f"\n  {_mistake(mistake)}" for mistake in error.errors())
    return problem_response(
        Problem(INVALID, f"The request was refused and nothing was done:{mistakes}")
    )


def _mistake(mistake: dict[str, object]) -> str:
    where = mistake["loc"]
    assert isinstance(where, tuple)
    value = mistake.get("input")
    given = f" (given: {shortened(repr(value))})" if isinstance(value, str | int) else ""
    return f"{where[-1]}, in the {where[0]}: {mistake['msg']}{given}"


async def on_http_error(_request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for what the framework refuses by itself."""
    assert isinstance(error, HTTPException)
    kind, detail = _KINDS.get(
        HTTPStatus(error.status_code),
        (MALFORMED, f"The request cannot be read: {error.detail}. Nothing was done."),
    )
    return problem_response(Problem(kind, detail, headers=dict(error.headers or {})))


async def on_caller_gone(_request: Request, _error: Exception) -> Response:
    """FastAPI's handler for a caller who left before the end of the request; nobody reads this."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)
