"""Errors as problem details (RFC 9457): what happened, what was kept, what to do.

`type` never changes its meaning; programs tell problems apart by it, people by `detail`.
"""

import json
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse

from producers.invalid_request import shorten
from schemas.errors import (
    DatabaseUnreachable,
    DatabaseUnsuitable,
    FieldError,
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
from web.request_notes import note_problem

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
"""When to come again where Postgres did not answer."""


class ProblemKind(NamedTuple):
    """A kind of problem: the last part of its type, its status, and its title."""

    slug: str
    status: HTTPStatus
    title: str

    @property
    def type(self) -> str:
        """The stable name by which programs know it."""
        return f"urn:sluice:problem:{self.slug}"


UNAUTHENTICATED = ProblemKind(
    "unauthenticated", HTTPStatus.UNAUTHORIZED, "Missing or invalid API key"
)
SCOPE_MISSING = ProblemKind(
    "scope-missing", HTTPStatus.FORBIDDEN, "The API key does not allow this"
)
NOT_FOUND = ProblemKind("not-found", HTTPStatus.NOT_FOUND, "Not found")
METHOD_NOT_ALLOWED = ProblemKind(
    "method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed"
)
MALFORMED = ProblemKind("malformed", HTTPStatus.BAD_REQUEST, "The request cannot be read")
INVALID = ProblemKind(
    "invalid", HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be carried out"
)
EVIDENCE_MISSING = ProblemKind(
    "evidence-missing", HTTPStatus.UNPROCESSABLE_ENTITY, "Evidence of permission is missing"
)
IDEMPOTENCY_KEY_REUSED = ProblemKind(
    "idempotency-key-reused", HTTPStatus.CONFLICT, "Idempotency key reused with a different request"
)
STATE_CONFLICT = ProblemKind(
    "state-conflict", HTTPStatus.CONFLICT, "The job's state does not allow this"
)
PLAN_DRIFTED = ProblemKind("plan-drifted", HTTPStatus.CONFLICT, "The plan no longer holds")
REQUEST_TIMEOUT = ProblemKind(
    "request-timeout", HTTPStatus.REQUEST_TIMEOUT, "The request took too long"
)
HEADERS_TOO_LARGE = ProblemKind(
    "headers-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The headers of the request are too large",
)
BODY_TOO_LARGE = ProblemKind(
    "body-too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"
)
UNSUPPORTED_MEDIA_TYPE = ProblemKind(
    "unsupported-media-type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "Unsupported media type",
)
TOO_MANY_REQUESTS = ProblemKind(
    "too-many-requests", HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"
)
INVALID_SIGNATURE = ProblemKind("invalid-signature", HTTPStatus.UNAUTHORIZED, "Invalid signature")
STALE_TIMESTAMP = ProblemKind("stale-timestamp", HTTPStatus.UNAUTHORIZED, "The message is too old")
INSUFFICIENT_STORAGE = ProblemKind(
    "insufficient-storage", HTTPStatus.INSUFFICIENT_STORAGE, "No room to keep the file"
)
UNAVAILABLE = ProblemKind("unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "Try again in a moment")
INTERNAL = ProblemKind("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "Sluice failed")


class Problem(SluiceError):
    """A request ends with a problem of this kind; `members` are extension members of its body."""

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


_KIND_BY_ERROR: tuple[tuple[type[SluiceError], ProblemKind], ...] = (
    (MissingEvidence, EVIDENCE_MISSING),
    (IdempotencyConflict, IDEMPOTENCY_KEY_REUSED),
    (StateConflict, STATE_CONFLICT),
    (NotFound, NOT_FOUND),
    (InvalidRequest, INVALID),
)
"""What the errors of the other rooms are here; the first that fits counts."""


_OPERATOR_ERRORS = (
    *(DatabaseUnreachable, DatabaseUnsuitable),
    *(QueueUnreachable, ServerStartError, SettingsError),
)
"""Errors whose text names servers and settings, and so is none of a caller's business."""


def to_problem(error: SluiceError) -> Problem:
    """Convert an error of any room into a problem; an unknown kind is a temporary failure."""
    if isinstance(error, Problem):
        return error
    for family, kind in _KIND_BY_ERROR:
        if isinstance(error, family):
            members: dict[str, Any] = {}
            if isinstance(error, MissingEvidence):
                members["prompts"] = [prompt._asdict() for prompt in error.prompts]
            if isinstance(error, InvalidRequest) and error.field_errors:
                members["errors"] = [_body_error(mistake) for mistake in error.field_errors]
            return Problem(kind, str(error), **members)
    text = str(error)
    if isinstance(error, _OPERATOR_ERRORS):
        text = (
            "A server that Sluice needs does not answer, or is not set up. Nothing was done. Try"
            " again in a moment."
        )
    return Problem(UNAVAILABLE, text, headers={"Retry-After": str(RETRY_SECONDS)})


def _body_error(mistake: FieldError) -> dict[str, str]:
    """Name the error's place as FastAPI does: the producers know no body."""
    where = "body" if mistake.location == "all" else f"body.{mistake.location}"
    return {"location": shorten(where), "message": mistake.message}


class ProblemResponse(JSONResponse):
    """A problem as it is sent. It may quote what came, and so has half characters replaced."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """Encode the body. It stays valid JSON, whatever it quotes."""
        return json.dumps(content, ensure_ascii=False).encode(errors="replace")


def build_problem_response(problem: Problem) -> ProblemResponse:
    """Make the response of a request that ends with a problem."""
    note_problem(problem.kind.slug)
    status = int(problem.kind.status)
    return ProblemResponse(build_problem_body(problem), status_code=status, headers=problem.headers)


def build_problem_body(problem: Problem) -> dict[str, Any]:
    """Return the problem's JSON object."""
    kind = problem.kind
    return {
        "type": kind.type,
        "title": kind.title,
        "status": int(kind.status),
        "detail": str(problem),
        **problem.members,
    }


SCHEMA_NAME = "Problem"
SCHEMA = {
    "title": SCHEMA_NAME,
    "description": "Problem details (RFC 9457). Programs tell problems apart by `type`.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "Never changes its meaning."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, what was kept, what to do."},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": True,
}
"""The schema of every problem; kinds of their own have further members."""


def problem_responses(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    """Return a route's `responses=`: the problems that it may end with, an example of each.

    Problems of every route (no key, too many requests, a wrong parameter, ...) need not be named;
    `web.openapi` adds them.
    """
    told: dict[int | str, dict[str, Any]] = {}
    for status in sorted({kind.status for kind in kinds}):
        alike = [kind for kind in kinds if kind.status == status]
        told[int(status)] = {
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
    return told


def build_examples() -> dict[str, Any]:
    """Return an example of each kind, by the name with which `problem_responses` refers to it."""
    return {
        kind.slug: {
            "value": {
                "type": kind.type,
                "title": kind.title,
                "status": int(kind.status),
                "detail": "What happened, what was kept, and what to do.",
            }
        }
        for kind in globals().values()
        if isinstance(kind, ProblemKind)
    }


async def handle_sluice_error(_request: Request, error: Exception) -> ProblemResponse:
    """Handle the errors that Sluice raises on purpose."""
    assert isinstance(error, SluiceError)
    return build_problem_response(to_problem(error))
