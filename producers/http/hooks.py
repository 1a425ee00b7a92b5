"""What senders without an API key post. No answer tells anything of the account."""

from typing import Any, NoReturn

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel

from db.hooks import Hook, hook_by_id
from producers.hook_events import HookEvent, parse_events, request_of_event
from producers.hook_forms import FormPost, parse_form, request_of_form
from producers.hooks import hook_claimed_by, is_token_of
from producers.http.forms import MEDIA_TYPES, is_form, read_form
from producers.http.here import CorrelationId, Here, HereDep
from producers.http.problems import (
    KEY_REUSED,
    NOT_FOUND,
    SIGNATURE_WRONG,
    UNSUPPORTED,
    Problem,
)
from producers.http.signed import require_signed
from producers.opt_outs import Acknowledged, opt_out_now
from runtime import events, logs
from runtime.signing import hook_secret
from schemas.errors import IdempotencyConflict, WrongInput
from schemas.requests import MAX_ID, JobRequest

log = logs.get()
router = APIRouter(tags=["hooks"])

_STORED: dict[int | str, dict[str, Any]] = {202: {"description": "Stored, and about to be applied"}}


class FormTaken(BaseModel):
    """What became of a form. `refused` names its fields that hold no address."""

    applied: bool
    created: bool
    refused: list[str]


class EventTaken(BaseModel):
    """What became of an event. Told again it is answered as before, with `created` false.

    With `conflict` its id stood for something else before; then it is neither stored nor applied.
    """

    event_id: str
    applied: bool
    created: bool
    conflict: bool = False


class EventsTaken(BaseModel):
    """What became of each event, in their order."""

    events: list[EventTaken]


@router.post(
    "/v1/hooks/form/{token}",
    responses=_STORED,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "object"}} for kind in MEDIA_TYPES},
        }
    },
)
async def take_form(
    token: str, request: Request, here: HereDep, correlation_id: CorrelationId, response: Response
) -> FormTaken:
    """Opt out the addresses of a form, for senders that can post one and cannot sign.

    Addresses are in `email`, `email1` to `email3`, `EmailAddress2` and the like, or `address`;
    `kind` is manual unless given; with an `event_id`, or else within a day, the same form is one
    job. Other fields may come along, and are not kept. An address that is none does not keep the
    others from being opted out.
    """
    hook = await _hook_of_form(here, token)
    try:
        if not is_form(request):
            raise Problem(
                UNSUPPORTED,
                f"The body is no form; nothing was stored. Send {' or '.join(MEDIA_TYPES)}.",
            )
        form = parse_form(await read_form(request))
        job_request = request_of_form(hook, form, correlation_id)
    except (Problem, WrongInput):
        _note_refused(hook, "malformed", correlation_id)
        raise
    done = await _apply(here, hook, job_request, correlation_id)
    if done is None:
        raise _told_otherwise(form)
    if not done.applied:
        response.status_code = status.HTTP_202_ACCEPTED
    return FormTaken(applied=done.applied, created=done.created, refused=form.refused)


@router.post(
    "/v1/hooks/{hook_id:int}/events",
    responses=_STORED,
    openapi_extra={
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in ("Sluice-Timestamp", "Sluice-Signature")
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            HookEvent.model_json_schema(),
                            {"type": "array", "items": HookEvent.model_json_schema()},
                        ]
                    }
                }
            },
        },
    },
)
async def take_events(
    hook_id: int, request: Request, here: HereDep, correlation_id: CorrelationId, response: Response
) -> EventsTaken:
    """Apply one event, or a list of up to a hundred, from a sender that signs.

    `Sluice-Signature` is `v1=` and the hexadecimal HMAC-SHA256, by the hook's secret, of
    `Sluice-Timestamp` (Unix seconds, at most 300 from now), a full stop and the body. All events
    are looked at before the first is applied. An `event_id` is one event for ever: a message that
    comes again is answered as the first time and changes nothing.
    """
    hook = await _hook_of_id(here, hook_id)
    body = await request.body()
    try:
        require_signed(request, body, hook_secret(here.settings, hook.id, hook.salt))
    except Problem as problem:
        wrong = problem.kind is SIGNATURE_WRONG
        _note_refused(hook, "signature_wrong" if wrong else "timestamp_stale", correlation_id)
        raise
    try:
        given = parse_events(body)
        requests = [request_of_event(hook, event, correlation_id) for event in given]
    except (Problem, WrongInput):
        _note_refused(hook, "malformed", correlation_id)
        raise
    taken = [
        _taken(event.event_id, await _apply(here, hook, job_request, correlation_id))
        for event, job_request in zip(given, requests, strict=True)
    ]
    if any(event.conflict for event in taken):
        raise _some_told_otherwise(taken)
    if not all(event.applied for event in taken):
        response.status_code = status.HTTP_202_ACCEPTED
    return EventsTaken(events=taken)


async def _hook_of_form(here: Here, token: str) -> Hook:
    async with here.pool.acquire() as connection:
        hook = await hook_claimed_by(connection, token)
    if hook is None:
        _not_there()
    if not is_token_of(here.settings, hook, token):
        _note_refused(hook, "token_wrong", None)
        _not_there()
    return _in_force(hook)


async def _hook_of_id(here: Here, hook_id: int) -> Hook:
    hook = None
    if 0 < hook_id <= MAX_ID:
        async with here.pool.acquire() as connection:
            hook = await hook_by_id(connection, hook_id)
    if hook is None:
        _not_there()
    return _in_force(hook)


def _in_force(hook: Hook) -> Hook:
    if hook.revoked:
        _note_refused(hook, "revoked", None)
        _not_there()
    return hook


def _not_there() -> NoReturn:
    """One answer for what never was, what was revoked, and what somebody guesses at."""
    raise Problem(NOT_FOUND, "There is no such hook; nothing was stored.")


async def _apply(
    here: Here, hook: Hook, request: JobRequest, correlation_id: str
) -> Acknowledged | None:
    """What became of the opt-out; None where its event was told before, and otherwise."""
    try:
        return await opt_out_now(here.pool, here.settings, request)
    except IdempotencyConflict:
        _note_refused(hook, "key_reused", correlation_id)
        return None


def _taken(event_id: str, done: Acknowledged | None) -> EventTaken:
    if done is None:
        return EventTaken(event_id=event_id, applied=False, created=False, conflict=True)
    return EventTaken(event_id=event_id, applied=done.applied, created=done.created)


def _told_otherwise(form: FormPost) -> Problem:
    return Problem(
        KEY_REUSED,
        "This event_id stood for something else before; nothing was stored. What is new needs a"
        " new id.",
        refused=form.refused,
    )


def _some_told_otherwise(taken: list[EventTaken]) -> Problem:
    answers: list[dict[str, Any]] = [event.model_dump() for event in taken]
    return Problem(
        KEY_REUSED,
        "Events with `conflict` have an event_id that stood for something else before, and nothing"
        " of them was stored; all others are. What is new needs a new id.",
        events=answers,
    )


def _note_refused(hook: Hook, why: str, correlation_id: str | None) -> None:
    more = {} if correlation_id is None else {"correlation_id": correlation_id}
    log.warning(events.HOOK_REFUSED, hook=hook.id, account=hook.account_id, why=why, **more)
