"""Errors as problem documents (RFC 9457): what happened, what was kept, what to do.

The meaning of a `type` never changes. Programs tell problems apart by it, people by `detail`.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi.responses import JSONResponse

from db.errors import CONNECTION_ERRORS, CONNECTION_USABLE_ERRORS, TRANSIENT_ERRORS
from producers.invalid_request import shorten
from schemas.errors import (
    DatabaseUnreachable,
    DatabaseUnsuitable,
    IdempotencyConflict,
    InvalidRequest,
    MissingEvidence,
    NotFound,
    QueueUnreachable,
    ServerStartError,
    SettingsError,
    SluiceError,
    StateConflict,
)
from web.request_notes import get_notes

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
"""The `Retry-After` of problems that pass by themselves."""

RETRY_HEADERS = {"Retry-After": str(RETRY_SECONDS)}
CLOSE_AND_RETRY = RETRY_HEADERS | {"Connection": "close"}
"""The headers of a problem that leaves a body unread: the rest would be read as the next request.
"""


class ProblemKind(NamedTuple):
    """A kind of problem: the last part of its type, its status and its title."""

    slug: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """The stable name by which programs recognize it."""
        return f"urn:sluice:problem:{self.slug}"


UNAUTHENTICATED = ProblemKind("unauthenticated", 401, "Missing or invalid API key")
SCOPE_MISSING = ProblemKind("scope-missing", 403, "The API key does not allow this")
NOT_FOUND = ProblemKind("not-found", 404, "Not found")
METHOD_NOT_ALLOWED = ProblemKind("method-not-allowed", 405, "Method not allowed")
MALFORMED = ProblemKind("malformed", 400, "The request cannot be read")
INVALID = ProblemKind("invalid", 422, "The request is invalid")
EVIDENCE_MISSING = ProblemKind("evidence-missing", 422, "Evidence of permission is missing")
IDEMPOTENCY_KEY_REUSED = ProblemKind(
    "idempotency-key-reused", 409, "Idempotency key reused with a different request"
)
STATE_CONFLICT = ProblemKind("state-conflict", 409, "The job's state does not allow this")
PLAN_DRIFTED = ProblemKind("plan-drifted", 409, "The counts of the plan have changed")
REQUEST_TIMEOUT = ProblemKind("request-timeout", 408, "The request took too long")
HEADERS_TOO_LARGE = ProblemKind(
    "headers-too-large", 431, "The headers of the request are too large"
)
BODY_TOO_LARGE = ProblemKind("body-too-large", 413, "The request is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemKind("unsupported-media-type", 415, "Unsupported media type")
TOO_MANY_REQUESTS = ProblemKind("too-many-requests", 429, "Too many requests")
INVALID_SIGNATURE = ProblemKind("invalid-signature", 401, "Invalid signature")
STALE_TIMESTAMP = ProblemKind("stale-timestamp", 401, "The message is too old")
INSUFFICIENT_STORAGE = ProblemKind("insufficient-storage", 507, "No disk space for the file")
UNAVAILABLE = ProblemKind("unavailable", 503, "Try again in a moment")
INTERNAL = ProblemKind("internal", 500, "Internal error")

KINDS = {kind.slug: kind for kind in list(vars().values()) if isinstance(kind, ProblemKind)}
"""All kinds, by their slugs."""

EXAMPLE_DETAIL = "What happened, what was kept, and what to do."


class Problem(SluiceError):
    """The error that ends a request; `members` are extension members of its document."""

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = headers or {}
        self.members = members


_KIND_BY_ERROR: dict[type[SluiceError], ProblemKind] = {
    MissingEvidence: EVIDENCE_MISSING,
    IdempotencyConflict: IDEMPOTENCY_KEY_REUSED,
    StateConflict: STATE_CONFLICT,
    NotFound: NOT_FOUND,
    InvalidRequest: INVALID,
}
"""The kinds of problems for errors that are raised outside `web`. The first that fits is used."""

_OPERATOR_ERRORS = (
    DatabaseUnreachable,
    DatabaseUnsuitable,
    QueueUnreachable,
    ServerStartError,
    SettingsError,
)
"""Errors whose text names servers and settings, which callers must not see."""


DATABASE_ERRORS: tuple[type[BaseException], ...] = (*TRANSIENT_ERRORS, *CONNECTION_ERRORS)
"""What the driver raises, through no fault of the request."""

EXPECTED_ERRORS: tuple[type[BaseException], ...] = (SluiceError, *DATABASE_ERRORS)
"""What `to_problem` is for."""


def to_problem(error: BaseException, scope: Mapping[str, Any]) -> Problem:
    """Return the problem of a request for one of `EXPECTED_ERRORS`.

    Without a kind it is `unavailable`.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, CONNECTION_USABLE_ERRORS):
        return unavailable_problem("The rows are locked by another transaction.", scope)
    if isinstance(error, DATABASE_ERRORS):
        return unavailable_problem("Postgres does not answer.", scope)
    for family, kind in _KIND_BY_ERROR.items():
        if isinstance(error, family):
            return Problem(kind, str(error), **_extension_members(error))
    text = str(error)
    if isinstance(error, _OPERATOR_ERRORS):
        text = (
            "A server that Sluice needs does not answer or is not set up. Nothing was done. Try"
            " again in a moment."
        )
    return Problem(UNAVAILABLE, text, headers=RETRY_HEADERS)


def unavailable_problem(why: str, scope: Mapping[str, Any]) -> Problem:
    """Build the problem of a request for an error that passes by itself."""
    return Problem(UNAVAILABLE, f"{why} {describe_repetition(scope)}", headers=RETRY_HEADERS)


def describe_repetition(scope: Mapping[str, Any]) -> str:
    """Say what was done of a request that failed, and that it may be sent again."""
    dependant = getattr(scope.get("route"), "dependant", None)
    headers = {header.alias for header in dependant.header_params} if dependant else set()
    again = "It is safe to send it again."
    if "idempotency-key" in headers:
        again = "With the same Idempotency-Key it is safe to send it again."
    return f"The request was done completely or not at all. {again}"


def _extension_members(error: BaseException) -> dict[str, Any]:
    if isinstance(error, MissingEvidence):
        return {"prompts": [prompt._asdict() for prompt in error.prompts]}
    if isinstance(error, InvalidRequest) and error.field_errors:
        return {
            "errors": [
                {"location": _location_in_body(each.location), "message": each.message}
                for each in error.field_errors
            ]
        }
    return {}


def _location_in_body(location: str) -> str:
    """Name a place as FastAPI does, under `body`; code outside `web` does not know of a body."""
    return shorten("body" if location == "all" else f"body.{location}")


class ProblemResponse(JSONResponse):
    """A problem document. Unpaired surrogates in what it quotes are replaced."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """Return the body, which is always valid JSON."""
        return json.dumps(content, ensure_ascii=False).encode(errors="replace")


def build_problem_response(problem: Problem) -> ProblemResponse:
    """Build the response of a request that ends with a problem, and note its kind for the log."""
    get_notes().problem = problem.kind.slug
    return ProblemResponse(
        _build_document(problem), status_code=problem.kind.status, headers=problem.headers
    )


def encode_response(problem: Problem) -> bytes:
    """Return the whole response to what did not become a request, and close the connection."""
    body = json.dumps(_build_document(problem)).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": len(body), "connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | problem.headers).items())
    status = problem.kind.status
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode() + body


def _build_document(problem: Problem) -> dict[str, Any]:
    return describe_kind(problem.kind, str(problem)) | problem.members


def describe_kind(kind: ProblemKind, detail: str) -> dict[str, Any]:
    """Return the members that every problem document of the kind has."""
    return {"type": kind.type, "title": kind.title, "status": kind.status, "detail": detail}


SCHEMA_NAME = "Problem"
SCHEMA: dict[str, Any] = {
    "title": SCHEMA_NAME,
    "description": "Problem details (RFC 9457). Programs tell problems apart by `type`.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "Its meaning never changes."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, what was kept, what to do."},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": True,
}
"""The schema of every problem; some kinds have more members."""


def problem_responses(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses=`: the kinds of problems that it may answer with.

    `web.openapi` adds those that follow from its key, its parameters and its body.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status in sorted({kind.status for kind in kinds}):
        alike = [kind for kind in kinds if kind.status == status]
        responses[status] = {
            "description": ", or: ".join(kind.title for kind in alike),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": f"#/components/schemas/{SCHEMA_NAME}"},
                    "examples": {
                        kind.slug: {"$ref": f"#/components/examples/{kind.slug}"} for kind in alike
                    },
                }
            },
        }
    return responses
