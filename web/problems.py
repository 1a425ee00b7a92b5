"""Errors as problem details (RFC 9457): what happened, what was kept, what to do.

`type` never changes its meaning; programs tell problems apart by it, people by `detail`.
"""

import json
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.responses import JSONResponse

from producers.invalid_request import shortened
from schemas.errors import (
    DatabaseUnreachable,
    DatabaseUnsuitable,
    EvidenceMissing,
    IdempotencyConflict,
    Mistake,
    NotFound,
    QueueUnreachable,
    ServerStartFailed,
    SettingsError,
    SluiceError,
    StateConflict,
    WrongInput,
)
from web.request_notes import note_problem

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
"""When to come again where Postgres did not answer."""


class Kind(NamedTuple):
    """A kind of problem: the last part of its type, its status, and its title."""

    slug: str
    status: HTTPStatus
    title: str

    @property
    def type(self) -> str:
        """The stable name by which programs know it."""
        return f"urn:sluice:problem:{self.slug}"


UNAUTHENTICATED = Kind("unauthenticated", HTTPStatus.UNAUTHORIZED, "Missing or invalid API key")
SCOPE_MISSING = Kind("scope-missing", HTTPStatus.FORBIDDEN, "The API key does not allow this")
NOT_FOUND = Kind("not-found", HTTPStatus.NOT_FOUND, "Not found")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "Method not allowed")
MALFORMED = Kind("malformed", HTTPStatus.BAD_REQUEST, "The request cannot be read")
INVALID = Kind("invalid", HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be carried out")
EVIDENCE_MISSING = Kind(
    "evidence-missing", HTTPStatus.UNPROCESSABLE_ENTITY, "Evidence of permission is missing"
)
KEY_REUSED = Kind(
    "idempotency-key-reused", HTTPStatus.CONFLICT, "Idempotency key reused with a different request"
)
STATE_CONFLICT = Kind("state-conflict", HTTPStatus.CONFLICT, "The job's state does not allow this")
PLAN_DRIFTED = Kind("plan-drifted", HTTPStatus.CONFLICT, "The plan no longer holds")
TOO_SLOW = Kind("too-slow", HTTPStatus.REQUEST_TIMEOUT, "The request took too long")
HEAD_TOO_LARGE = Kind(
    "head-too-large",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The headers of the request are too large",
)
TOO_LARGE = Kind("too-large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large")
UNSUPPORTED = Kind(
    "unsupported-media-type",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "Unsupported media type",
)
TOO_MANY_REQUESTS = Kind("too-many-requests", HTTPStatus.TOO_MANY_REQUESTS, "Too many requests")
SIGNATURE_WRONG = Kind("signature-wrong", HTTPStatus.UNAUTHORIZED, "Invalid signature")
STALE = Kind("stale-timestamp", HTTPStatus.UNAUTHORIZED, "The message is too old")
NO_ROOM = Kind("insufficient-storage", HTTPStatus.INSUFFICIENT_STORAGE, "No room to keep the file")
UNAVAILABLE = Kind("unavailable", HTTPStatus.SERVICE_UNAVAILABLE, "Try again in a moment")
INTERNAL = Kind("internal", HTTPStatus.INTERNAL_SERVER_ERROR, "Sluice failed")


class Problem(SluiceError):
    """A request ends with a problem of this kind; `more` are further members of its body."""

    def __init__(
        self, kind: Kind, detail: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = headers or {}
        self.more = more


_KINDS: tuple[tuple[type[SluiceError], Kind], ...] = (
    (EvidenceMissing, EVIDENCE_MISSING),
    (IdempotencyConflict, KEY_REUSED),
    (StateConflict, STATE_CONFLICT),
    (NotFound, NOT_FOUND),
    (WrongInput, INVALID),
)
"""What the errors of the other rooms are here; the first that fits counts."""


_FOR_OPERATORS = (
    *(DatabaseUnreachable, DatabaseUnsuitable),
    *(QueueUnreachable, ServerStartFailed, SettingsError),
)
"""Errors whose text names servers and settings, and so is none of a caller's business."""


def problem_of(error: SluiceError) -> Problem:
    """The problem that an error of any room is; what fits none is a moment's trouble."""
    if isinstance(error, Problem):
        return error
    for family, kind in _KINDS:
        if isinstance(error, family):
            more: dict[str, Any] = {}
            if isinstance(error, EvidenceMissing):
                more["prompts"] = [prompt._asdict() for prompt in error.prompts]
            if isinstance(error, WrongInput) and error.mistakes:
                more["mistakes"] = [_in_body(mistake) for mistake in error.mistakes]
            return Problem(kind, str(error), **more)
    text = str(error)
    if isinstance(error, _FOR_OPERATORS):
        text = (
            "A server that Sluice needs does not answer, or is not set up. Nothing was done. Try"
            " again in a moment."
        )
    return Problem(UNAVAILABLE, text, headers={"Retry-After": str(RETRY_SECONDS)})


def _in_body(mistake: Mistake) -> dict[str, str]:
    """Its place as FastAPI names places: the rooms behind know of no body."""
    where = "body" if mistake.where == "all" else f"body.{mistake.where}"
    return {"where": shortened(where), "message": mistake.message}


class ProblemResponse(JSONResponse):
    """A problem as it is sent. It may quote what came, and so has half characters replaced."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """The body; it is always JSON, whatever is quoted in it."""
        return json.dumps(content, ensure_ascii=False).encode(errors="replace")


def problem_response(problem: Problem) -> ProblemResponse:
    """The answer of a request that ends with a problem."""
    note_problem(problem.kind.slug)
    status = int(problem.kind.status)
    return ProblemResponse(problem_body(problem), status_code=status, headers=problem.headers)


def problem_body(problem: Problem) -> dict[str, Any]:
    """A problem as JSON has it."""
    kind = problem.kind
    return {
        "type": kind.type,
        "title": kind.title,
        "status": int(kind.status),
        "detail": str(problem),
        **problem.more,
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


def answers(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """A route's `responses=`: the problems that it may end with, an example of each.

    What any route may answer (no key, too many requests, a wrong parameter and so on) need not be
    named; `web.openapi` adds it.
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


def examples() -> dict[str, Any]:
    """An example of each kind, by the name that `answers` refers to it by."""
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
        if isinstance(kind, Kind)
    }


async def on_sluice_error(_request: Request, error: Exception) -> ProblemResponse:
    """FastAPI's handler for errors that Sluice raises on purpose."""
    assert isinstance(error, SluiceError)
    return problem_response(problem_of(error))
