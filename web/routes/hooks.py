"""What senders without an API key post. No answer tells anything of the account."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from db.hooks import Hook
from producers.fair_executor import off_loop
from producers.hook_events import (
    MOST_EVENTS,
    BadEvent,
    Event,
    HookEvent,
    read_events,
    told_of_event,
)
from producers.hook_fields import Adjusted, kept_text
from producers.hook_forms import read_form, told_of_form
from producers.hook_opt_outs import HookOptOuts, Told
from producers.hooks import NO_HOOK, hook_claimed_by, is_token_of, secrets_of
from producers.immediate_opt_out import Acknowledged
from runtime import events, logs
from schemas.actors import Actor, ActorKind, Via
from schemas.errors import WrongInput
from schemas.statuses import RECIPIENT_KINDS
from web.form_parser import charset_of, fields_in, form_body
from web.number_params import WRITTEN_ID
from web.path_convertor import ANY
from web.problems import (
    INVALID,
    KEY_REUSED,
    MALFORMED,
    NOT_FOUND,
    SIGNATURE_WRONG,
    STALE,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    Problem,
    answers,
)
from web.request_body import body_schema, is_large
from web.request_notes import note_hook, note_job
from web.signatures import is_signed, require_signed
from web.state import CorrelationId, Here, HereDep

log = logs.get()
router = APIRouter(tags=["hooks"])
T = TypeVar("T")


class FormTaken(BaseModel):
    """What became of a form."""

    applied: bool
    created: bool
    refused: list[str] = Field(description="Names of fields that hold no address.")
    adjusted: list[str] | None = Field(
        None, description="What was passed over, or read otherwise than it came."
    )


class EventTaken(BaseModel):
    """What became of an event. Told again it is answered as before, with `created` false.

    With `conflict` its id stood for something else before, and with `error` it cannot be read; then
    it is neither stored nor applied.
    """

    event_id: str | None = None
    applied: bool = False
    created: bool = False
    conflict: bool = False
    adjusted: list[str] | None = Field(
        None, description="What was passed over, or read otherwise than it came."
    )
    error: str | None = Field(None, description="Why nothing of this event was stored.")


class EventsTaken(BaseModel):
    """What became of each event, in their order."""

    events: list[EventTaken]


_FORM: dict[str, Any] = {
    "requestBody": form_body(
        {
            "email": {"description": "The recipient's address."},
            "email2": {"description": "Another one of the same person."},
            "kind": {
                "description": f"How: {', '.join(RECIPIENT_KINDS)}. Anything else counts as manual."
            },
            "event_id": {"description": "The sender's own id, by which it is one event."},
            "contactId": {"description": "Kept as a note with the job."},
        }
    )
}


@router.post(
    f"/v1/hooks/form/{{token:{ANY}}}",
    operation_id="post_form",
    summary="Opt out the addresses of a form",
    response_description="They are opted out.",
    responses={
        202: {"model": FormTaken, "description": "Stored, and about to be applied."},
        **answers(TOO_LARGE, INVALID, KEY_REUSED, NOT_FOUND, TOO_MANY_REQUESTS),
    },
    response_model_exclude_none=True,
    openapi_extra=_FORM,
)
async def post_form(
    token: str, request: Request, response: Response, here: HereDep, correlation_id: CorrelationId
) -> FormTaken:
    """For senders that can post a form and cannot sign: who has the URL may opt out.

    Addresses of one person are in `email`, `EmailAddress2`, `data[email]`, `recipient` and the
    like. Urlencoded, multipart and JSON are read, whatever the content type says. `kind` is manual
    unless given. With an `event_id`, or without one within a day, the same form makes one job.
    Other fields may come along, and are not kept; of `contactId` or `Id` a note is. What does not
    matter for the opt-out does not refuse it, and is told of in `refused` and `adjusted`. Each of
    several objects in a list of JSON is an event of its own.
    """
    hook = await _hook_of_form(request, here, token)
    body = await request.body()
    await here.take_turn(request, ("hook", hook.id))
    sent_as = request.headers.get("content-type", "")
    with _noting_malformed(hook, correlation_id):
        form = await off_loop(
            hook.account,
            lambda: read_form(fields_in(body, sent_as)),
            where=is_large(body),
        )
    told = [told_of_form(hook, post) for post in form.posts]
    done = await _apply_all(here, hook, told, Via.HOOK_FORM, correlation_id)
    taken = [each for each in done if each is not None]
    if len(taken) < len(done):
        raise Problem(
            KEY_REUSED,
            "An event_id stood for something else before; nothing was stored of its event. What is"
            " new needs a new id.",
            event_ids=[
                post.event_id and kept_text(post.event_id)
                for post, each in zip(form.posts, done, strict=True)
                if each is None
            ],
        )
    if not all(each.applied for each in taken):
        response.status_code = HTTPStatus.ACCEPTED
    adjusted = list(dict.fromkeys(each for post in form.posts for each in post.adjusted))
    _note_adjusted(hook, adjusted, correlation_id)
    return FormTaken(
        applied=all(each.applied for each in taken),
        created=any(each.created for each in taken),
        refused=form.refused,
        adjusted=_told(adjusted),
    )


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
        **answers(MALFORMED, TOO_LARGE, INVALID, KEY_REUSED, NOT_FOUND),
        **answers(SIGNATURE_WRONG, STALE, TOO_MANY_REQUESTS),
    },
    response_model_exclude_none=True,
    openapi_extra=_SIGNED_EVENTS,
)
async def post_events(
    hook_id: Annotated[int, WRITTEN_ID],
    request: Request,
    response: Response,
    here: HereDep,
    correlation_id: CorrelationId,
) -> EventsTaken:
    """For senders that sign: one event, or a list of them.

    The signature is looked at before anything else, over the bytes as they came, and counts for 300
    seconds. Without it a hook is answered like one that there is not. Each event is applied on its
    own, and one that cannot be read keeps no other from being applied: it has an `error`. Only
    where none can be read the answer is a problem. An `event_id` always stands for one event: a
    message that comes again is answered as the first time, and changes nothing. Where ids stood for
    something else before, the answer is 409, and all other events are applied.

    Of a message with so many events that they take more than five seconds, the rest is stored, and
    applied by workers before all other work.
    """
    body = await request.body()
    hook = await _hook_that_signed(request, here, hook_id, body, correlation_id)
    await here.take_turn(request, ("hook", hook.id))
    with _noting_malformed(hook, correlation_id):
        charset = charset_of(request.headers.get("content-type", ""))
        given = await off_loop(
            hook.account, lambda: _events_of(body, charset), where=is_large(body)
        )
    good = [event for event in given if isinstance(event, Event)]
    told = [told_of_event(hook, event) for event in good]
    done = await _apply_all(here, hook, told, Via.HOOK_EVENTS, correlation_id)
    answers = iter(map(_taken, good, done))
    taken = [next(answers) if isinstance(event, Event) else _refused(event) for event in given]
    if any(event.error for event in taken):
        _note_refused(hook, "malformed", correlation_id)
    adjusted = [each for event in good for each in event.adjusted]
    _note_adjusted(hook, adjusted, correlation_id)
    if any(event.conflict for event in taken):
        raise Problem(
            KEY_REUSED,
            "Events with `conflict` have an event_id that stood for something else before, and"
            " nothing of them was stored; all others are. What is new needs a new id.",
            events=_dumped(taken),
        )
    if not all(event.applied or event.error for event in taken):
        response.status_code = HTTPStatus.ACCEPTED
    return EventsTaken(events=taken)


def _events_of(body: bytes, charset: str) -> list[Event | BadEvent]:
    """The events of the body, one of which at least can be applied; raises Problem, and WrongInput
    where there is none, or there are too many.
    """
    try:
        given = read_events(body, charset)
    except ValueError:
        raise Problem(
            MALFORMED,
            "The body is not JSON. Nothing was stored. Send an event, or a list of events.",
        ) from None
    bad = [event for event in given if isinstance(event, BadEvent)]
    if len(bad) == len(given):
        kind = MALFORMED if bad[0].is_repeated else INVALID
        raise Problem(kind, bad[0].error, events=_dumped(map(_refused, bad)))
    return given


def _taken(event: Event, done: Acknowledged | None) -> EventTaken:
    event_id = event.event_id and kept_text(event.event_id)
    if done is None:
        return EventTaken(event_id=event_id, conflict=True)
    return EventTaken(
        event_id=event_id,
        applied=done.applied,
        created=done.created,
        adjusted=_told(event.adjusted),
    )


async def _apply_all(
    here: Here, hook: Hook, told: Sequence[Told], via: Via, correlation_id: str
) -> list[Acknowledged | None]:
    actor = Actor(ActorKind.HOOK, via, hook.id)
    opt_outs = HookOptOuts(here.pool, here.settings, hook, actor, correlation_id)
    done = await opt_outs.apply(told)
    for each in done:
        if each is None:
            _note_refused(hook, "key_reused", correlation_id)
        else:
            note_job(each.job_id)
    return done


def _refused(event: BadEvent) -> EventTaken:
    return EventTaken(event_id=event.event_id and kept_text(event.event_id), error=event.error)


def _dumped(events: Iterable[EventTaken]) -> list[dict[str, Any]]:
    return [event.model_dump(exclude_none=True) for event in events]


def _told(adjusted: Sequence[Adjusted]) -> list[str] | None:
    return [str(each) for each in adjusted] or None


async def _hook_of_form(request: Request, here: Here, token: str) -> Hook:
    peer = here.peer_of(request)
    too_many = here.wrong_tries.are_too_many(peer)

    def is_right(hook: Hook) -> bool:
        return is_token_of(here.settings, hook, token)

    hook = await here.known_hooks.hook(hook_claimed_by(token), is_right, from_list=too_many)
    if not is_right(hook):
        if too_many:
            raise here.wrong_tries.too_many()
        here.wrong_tries.count(peer)
        _note_refused(hook, "token_wrong", None)
        _not_there()
    return _in_force(hook)


async def _hook_that_signed(
    request: Request, here: Here, hook_id: int, body: bytes, correlation_id: str
) -> Hook:
    """The hook whose secret the message is signed with. One that there is not, one that was revoked
    and a wrong signature are answered alike, after the same steps.
    """
    peer = here.peer_of(request)
    too_many = here.wrong_tries.are_too_many(peer)

    def is_right(hook: Hook) -> bool:
        return is_signed(request, body, secrets_of(here.settings, hook))

    hook = await here.known_hooks.hook(hook_id, is_right, from_list=too_many)
    try:
        require_signed(request, body, secrets_of(here.settings, hook))
    except Problem as problem:
        if problem.kind is not SIGNATURE_WRONG:
            _note_refused(hook, "timestamp_stale", correlation_id)
            raise
        if too_many:
            raise here.wrong_tries.too_many() from None
        here.wrong_tries.count(peer)
        _note_refused(hook, "signature_wrong", correlation_id)
        raise
    return _in_force(hook)


def _in_force(hook: Hook) -> Hook:
    note_hook(hook)
    if hook.revoked:
        _note_refused(hook, "revoked", None)
        _not_there()
    return hook


def _not_there() -> NoReturn:
    """One answer for what never was, what was revoked, and what somebody guesses at."""
    raise Problem(NOT_FOUND, "There is no such hook; nothing was stored.")


@contextmanager
def _noting_malformed(hook: Hook, correlation_id: str) -> Iterator[None]:
    """What is raised inside is told in the log as well: its sender may not look at answers."""
    try:
        yield
    except (Problem, WrongInput):
        _note_refused(hook, "malformed", correlation_id)
        raise


def _note_refused(hook: Hook, why: str, correlation_id: str | None) -> None:
    if hook is NO_HOOK:
        return
    more = {} if correlation_id is None else {"correlation_id": correlation_id}
    log.warning(events.HOOK_REFUSED, hook=hook.id, account=hook.account_id, why=why, **more)


def _note_adjusted(hook: Hook, adjusted: Sequence[Adjusted], correlation_id: str) -> None:
    if adjusted:
        log.info(
            events.HOOK_ADJUSTED,
            hook=hook.id,
            account=hook.account_id,
            what=sorted({each.what for each in adjusted}),
            correlation_id=correlation_id,
        )
