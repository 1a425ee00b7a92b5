"""What senders without an API key post. No answer tells anything of the account."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NoReturn

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from db.hooks import Hook, hook_by_id
from producers.hook_events import MOST_EVENTS, HookEvent, parse_events, request_of_event
from producers.hook_forms import parse_form, request_of_form
from producers.hooks import hook_claimed_by, is_token_of
from producers.http.bodies import body_schema
from producers.http.forms import form_body, read_form
from producers.http.here import CorrelationId, Here, HereDep
from producers.http.problems import (
    INVALID,
    KEY_REUSED,
    MALFORMED,
    NOT_FOUND,
    SIGNATURE_WRONG,
    STALE,
    TOO_LARGE,
    UNSUPPORTED,
    Problem,
    answers,
)
from producers.http.signed import require_signed
from producers.opt_outs import Acknowledged, opt_out_now
from runtime import events, logs
from runtime.signing import hook_secret
from schemas.errors import IdempotencyConflict, WrongInput
from schemas.requests import MAX_ID, JobRequest
from schemas.statuses import RECIPIENT_KINDS, Status

log = logs.get()
router = APIRouter(tags=["hooks"])


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


_FORM: dict[str, Any] = {
    "requestBody": form_body(
        {
            "email": {"type": "string"},
            "email2": {"type": "string"},
            "kind": {"enum": RECIPIENT_KINDS, "default": Status.MANUAL},
            "event_id": {"type": "string"},
            "contactId": {"type": "string"},
        }
    )
}


@router.post(
    "/v1/hooks/form/{token}",
    operation_id="post_form",
    summary="Opt out the addresses of a form",
    response_description="They are opted out.",
    responses={
        202: {"model": FormTaken, "description": "Stored, and about to be applied."},
        **answers(MALFORMED, UNSUPPORTED, TOO_LARGE, INVALID, KEY_REUSED, NOT_FOUND),
    },
    openapi_extra=_FORM,
)
async def post_form(
    token: str, request: Request, response: Response, here: HereDep, correlation_id: CorrelationId
) -> FormTaken:
    """For senders that can post a form and cannot sign: who has the URL may opt out.

    Addresses of one person are in `email`, `email1` to `email3`, `EmailAddress2` and the like, or
    `address`. `kind` is manual unless given. With an `event_id`, or without one within a day, the
    same form makes one job. Other fields may come along, and are not kept; of `contactId` or `Id` a
    note is. A field that holds no address does not keep the others from being opted out.
    """
    hook = await _hook_of_form(here, token)
    with _noting_malformed(hook, correlation_id):
        form = parse_form(await read_form(request))
        opt_out = request_of_form(hook, form, correlation_id)
    done = await _apply(here, hook, opt_out, correlation_id)
    if done is None:
        raise Problem(
            KEY_REUSED,
            "This event_id stood for something else before; nothing was stored. What is new needs a"
            " new id.",
        )
    if not done.applied:
        response.status_code = HTTPStatus.ACCEPTED
    return FormTaken(applied=done.applied, created=done.created, refused=form.refused)


_EVENT = body_schema(HookEvent)
_SIGNED_EVENTS: dict[str, Any] = {
    "parameters": [
        {
            "name": "Sluice-Timestamp",
            "in": "header",
            "required": True,
            "description": "When the message was signed, in Unix seconds.",
            "schema": {"type": "string"},
        },
        {
            "name": "Sluice-Signature",
            "in": "header",
            "required": True,
            "description": "`v1=` and the hexadecimal HMAC-SHA256, by the hook's secret, of the"
            " timestamp, a full stop and the body.",
            "schema": {"type": "string"},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _EVENT,
                        {
                            "type": "array",
                            "items": _EVENT,
                            "minItems": 1,
                            "maxItems": MOST_EVENTS,
                        },
                    ]
                }
            }
        },
    },
}


@router.post(
    "/v1/hooks/{hook_id}/events",
    operation_id="post_events",
    summary="Opt out the addresses of signed events",
    response_description="They are opted out.",
    responses={
        202: {"model": EventsTaken, "description": "Stored; some are about to be applied."},
        **answers(MALFORMED, TOO_LARGE, INVALID, KEY_REUSED, NOT_FOUND, SIGNATURE_WRONG, STALE),
    },
    openapi_extra=_SIGNED_EVENTS,
)
async def post_events(
    hook_id: int,
    request: Request,
    response: Response,
    here: HereDep,
    correlation_id: CorrelationId,
) -> EventsTaken:
    """For senders that sign: one event, or a list of up to a hundred.

    The signature is looked at before anything else, over the bytes as they came, and counts for 300
    seconds. All events are checked before the first is applied. An `event_id` is one event for
    ever: a message that comes again is answered as the first time, and changes nothing. Where ids
    stood for something else before, the answer is 409, and all other events are applied.
    """
    hook = await _hook_of_id(here, hook_id)
    body = await request.body()
    try:
        require_signed(request, body, hook_secret(here.settings, hook.id, hook.salt))
    except Problem as problem:
        wrong = problem.kind is SIGNATURE_WRONG
        _note_refused(hook, "signature_wrong" if wrong else "timestamp_stale", correlation_id)
        raise
    with _noting_malformed(hook, correlation_id):
        given = parse_events(_json(body))
        opt_outs = [
            _opt_out_of(hook, event, number, correlation_id) for number, event in enumerate(given)
        ]
    taken = [
        _taken(event.event_id, await _apply(here, hook, opt_out, correlation_id))
        for event, opt_out in zip(given, opt_outs, strict=True)
    ]
    if any(event.conflict for event in taken):
        raise Problem(
            KEY_REUSED,
            "Events with `conflict` have an event_id that stood for something else before, and"
            " nothing of them was stored; all others are. What is new needs a new id.",
            events=[event.model_dump() for event in taken],
        )
    if not all(event.applied for event in taken):
        response.status_code = HTTPStatus.ACCEPTED
    return EventsTaken(events=taken)


def _opt_out_of(hook: Hook, event: HookEvent, number: int, correlation_id: str) -> JobRequest:
    try:
        return request_of_event(hook, event, correlation_id)
    except WrongInput as error:
        raise WrongInput(f"events.{number}.{error}") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(
            MALFORMED,
            f"The body is not JSON; nothing was stored. Send an event, or up to {MOST_EVENTS}.",
        ) from None


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


@contextmanager
def _noting_malformed(hook: Hook, correlation_id: str) -> Iterator[None]:
    """What is raised inside is told in the log as well: its sender may not look at answers."""
    try:
        yield
    except (Problem, WrongInput):
        _note_refused(hook, "malformed", correlation_id)
        raise


def _note_refused(hook: Hook, why: str, correlation_id: str | None) -> None:
    more = {} if correlation_id is None else {"correlation_id": correlation_id}
    log.warning(events.HOOK_REFUSED, hook=hook.id, account=hook.account_id, why=why, **more)
