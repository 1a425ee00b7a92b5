"""What a caller is told when Postgres does not answer."""

from fastapi import Request
from fastapi.responses import JSONResponse

from producers.http.problems import RETRY_SECONDS, UNAVAILABLE, Problem, problem_response


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
