"""What senders without an API key post. No answer tells anything of the account."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, NoReturn, TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from db.hooks import Hook
from producers.fair_executor import run_off_loop
from producers.hook_events import (
    MAX_EVENTS,
    HookEvent,
    InvalidEvent,
    OptOutEvent,
    event_to_opt_out,
    read_events,
)
from producers.hook_fields import Adjustment, to_storable_text
from producers.hook_forms import form_to_opt_out, read_form
from producers.hook_opt_outs import HookOptOut, HookOptOutApplier
from producers.hooks import DUMMY_HOOK, hook_secrets, is_token_of_hook
from producers.immediate_opt_out import OptOutReceipt
from runtime import events, logs
from runtime.signing import parse_hook_token
from schemas.actors import Actor, ActorKind, Via
from schemas.errors import InvalidRequest
from schemas.statuses import RECIPIENT_KINDS
from web.form_parser import form_body_schema, get_charset, parse_fields
from web.number_params import PATH_ID
from web.path_convertor import ANY_PATH
from web.problems import (
    BODY_TOO_LARGE,
    IDEMPOTENCY_KEY_REUSED,
    INVALID,
    INVALID_SIGNATURE,
    MALFORMED,
    NOT_FOUND,
    STALE_TIMESTAMP,
    TOO_MANY_REQUESTS,
    Problem,
    problem_responses,
)
from web.request_body import body_schema, is_large
from web.request_notes import note_hook, note_job
from web.signatures import has_valid_signature, require_signature
from web.state import AppState, CorrelationId, State

log = logs.get_logger()
router = APIRouter(tags=["hooks"])
T = TypeVar("T")


class FormResult(BaseModel):
    """What became of a form."""

    applied: bool
    created: bool
    rejected_fields: list[str] = Field(description="Names of fields that hold no address.")
    adjusted: list[str] | None = Field(
        None, description="What was passed over, or read otherwise than it came."
    )


class EventResult(BaseModel):
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


class EventResults(BaseModel):
    """What became of each event, in their order."""

    events: list[EventResult]


_FORM_OPENAPI: dict[str, Any] = {
    "requestBody": form_body_schema(
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
    f"/v1/hooks/form/{{token:{ANY_PATH}}}",
    operation_id="post_form",
    summary="Opt out the addresses of a form",
    response_description="They are opted out.",
    responses={
        202: {"model": FormResult, "description": "InsertedJob, and about to be applied."},
        **problem_responses(
            BODY_TOO_LARGE, INVALID, IDEMPOTENCY_KEY_REUSED, NOT_FOUND, TOO_MANY_REQUESTS
        ),
    },
    response_model_exclude_none=True,
    openapi_extra=_FORM_OPENAPI,
)
async def post_form(
    token: str, request: Request, response: Response, state: State, correlation_id: CorrelationId
) -> FormResult:
    """Opt out by a form, for senders that cannot sign: the URL itself is the secret.

    Addresses of one person are in `email`, `EmailAddress2`, `data[email]`, `recipient` and the
    like. Urlencoded, multipart and JSON bodies are read, whatever the content type says. `kind` is
    manual unless given. With an `event_id`, or without one within a day, the same form makes one
    job. Other fields are ignored; `contactId` or `Id` is kept as a note. A fault that does not
    matter for the opt-out does not stop it, and is listed in `rejected_fields` and `adjusted`. Each
    object of a JSON list is an event of its own.
    """
    hook = await _authenticate_form(request, state, token)
    body = await request.body()
    await state.acquire_slot(request, ("hook", hook.id))
    sent_as = request.headers.get("content-type", "")
    with _log_malformed(hook, correlation_id):
        form = await run_off_loop(
            hook.account,
            lambda: read_form(parse_fields(body, sent_as)),
            is_long=is_large(body),
        )
    told = [form_to_opt_out(hook, post) for post in form.posts]
    done = await _apply_all(state, hook, told, Via.HOOK_FORM, correlation_id)
    taken = [each for each in done if each is not None]
    if len(taken) < len(done):
        raise Problem(
            IDEMPOTENCY_KEY_REUSED,
            "An event_id stood for something else before; nothing was stored of its event. What is"
            " new needs a new id.",
            event_ids=[
                post.event_id and to_storable_text(post.event_id)
                for post, each in zip(form.posts, done, strict=True)
                if each is None
            ],
        )
    if not all(each.applied for each in taken):
        response.status_code = HTTPStatus.ACCEPTED
    adjusted = list(dict.fromkeys(each for post in form.posts for each in post.adjusted))
    _log_adjusted(hook, adjusted, correlation_id)
    return FormResult(
        applied=all(each.applied for each in taken),
        created=any(each.created for each in taken),
        rejected_fields=form.refused,
        adjusted=_describe_adjusted(adjusted),
    )


_EVENT_SCHEMA = body_schema(HookEvent)
_EVENTS_OPENAPI: dict[str, Any] = {
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
                        _EVENT_SCHEMA,
                        {
                            "type": "array",
                            "items": _EVENT_SCHEMA,
                            "minItems": 1,
                            "maxItems": MAX_EVENTS,
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
        202: {"model": EventResults, "description": "InsertedJob; some are about to be applied."},
        **problem_responses(MALFORMED, BODY_TOO_LARGE, INVALID, IDEMPOTENCY_KEY_REUSED, NOT_FOUND),
        **problem_responses(INVALID_SIGNATURE, STALE_TIMESTAMP, TOO_MANY_REQUESTS),
    },
    response_model_exclude_none=True,
    openapi_extra=_EVENTS_OPENAPI,
)
async def post_events(
    hook_id: Annotated[int, PATH_ID],
    request: Request,
    response: Response,
    state: State,
    correlation_id: CorrelationId,
) -> EventResults:
    """Opt out by signed events: one, or a list of them.

    The signature is checked first, over the bytes as they arrived, and is valid for 300 seconds.
    Without it, a hook is answered like one that does not exist. Each event is applied on its own;
    one that cannot be read gets an `error` and does not stop the others. Only if none can be read,
    the response is a problem. An `event_id` always stands for one event: a repeated message gets
    the first response, and changes nothing. If an id stood for another event before, the response
    is 409, and all other events are applied.

    If the events take more than five seconds, the rest is stored, and workers apply it before all
    other work.
    """
    body = await request.body()
    hook = await _authenticate_signed(request, state, hook_id, body, correlation_id)
    await state.acquire_slot(request, ("hook", hook.id))
    with _log_malformed(hook, correlation_id):
        charset = get_charset(request.headers.get("content-type", ""))
        given = await run_off_loop(
            hook.account, lambda: _parse_events(body, charset), is_long=is_large(body)
        )
    good = [event for event in given if isinstance(event, OptOutEvent)]
    told = [event_to_opt_out(hook, event) for event in good]
    done = await _apply_all(state, hook, told, Via.HOOK_EVENTS, correlation_id)
    results = iter(map(_build_result, good, done))
    taken = [
        next(results) if isinstance(event, OptOutEvent) else _build_error_result(event)
        for event in given
    ]
    if any(event.error for event in taken):
        _log_refused(hook, "malformed", correlation_id)
    adjusted = [each for event in good for each in event.post.adjusted]
    _log_adjusted(hook, adjusted, correlation_id)
    if any(event.conflict for event in taken):
        raise Problem(
            IDEMPOTENCY_KEY_REUSED,
            "Events with `conflict` have an event_id that stood for something else before, and"
            " nothing of them was stored; all others are. What is new needs a new id.",
            events=_dump_results(taken),
        )
    if not all(event.applied or event.error for event in taken):
        response.status_code = HTTPStatus.ACCEPTED
    return EventResults(events=taken)


def _parse_events(body: bytes, charset: str) -> list[OptOutEvent | InvalidEvent]:
    """Parse the body's events, at least one of which can be applied.

    Raises Problem, and InvalidRequest if there are no events or too many.
    """
    try:
        given = read_events(body, charset)
    except ValueError:
        raise Problem(
            MALFORMED,
            "The body is not JSON. Nothing was stored. Send an event, or a list of events.",
        ) from None
    bad = [event for event in given if isinstance(event, InvalidEvent)]
    if len(bad) == len(given):
        kind = MALFORMED if bad[0].is_repeated else INVALID
        raise Problem(kind, bad[0].error, events=_dump_results(map(_build_error_result, bad)))
    return given


def _build_result(event: OptOutEvent, done: OptOutReceipt | None) -> EventResult:
    event_id = event.post.event_id and to_storable_text(event.post.event_id)
    if done is None:
        return EventResult(event_id=event_id, conflict=True)
    return EventResult(
        event_id=event_id,
        applied=done.applied,
        created=done.created,
        adjusted=_describe_adjusted(event.post.adjusted),
    )


async def _apply_all(
    state: AppState, hook: Hook, told: Sequence[HookOptOut], via: Via, correlation_id: str
) -> list[OptOutReceipt | None]:
    actor = Actor(ActorKind.HOOK, via, hook.id)
    opt_outs = HookOptOutApplier(state.pool, state.settings, hook, actor, correlation_id)
    done = await opt_outs.apply(told)
    for each in done:
        if each is None:
            _log_refused(hook, "key_reused", correlation_id)
        else:
            note_job(each.job_id)
    return done


def _build_error_result(event: InvalidEvent) -> EventResult:
    return EventResult(
        event_id=event.event_id and to_storable_text(event.event_id), error=event.error
    )


def _dump_results(events: Iterable[EventResult]) -> list[dict[str, Any]]:
    return [event.model_dump(exclude_none=True) for event in events]


def _describe_adjusted(adjusted: Sequence[Adjustment]) -> list[str] | None:
    return [str(each) for each in adjusted] or None


async def _authenticate_form(request: Request, state: AppState, token: str) -> Hook:
    peer = state.get_peer(request)
    is_limited = state.failed_auth_limiter.is_limited(peer)

    def is_authentic(hook: Hook) -> bool:
        return is_token_of_hook(state.settings, hook, token)

    hook = await state.hook_cache.find(parse_hook_token(token), is_authentic, use_list=is_limited)
    if not is_authentic(hook):
        if is_limited:
            raise state.failed_auth_limiter.problem()
        state.failed_auth_limiter.record_failure(peer)
        _log_refused(hook, "invalid_token", None)
        _raise_not_found()
    return _require_active(hook)


async def _authenticate_signed(
    request: Request, state: AppState, hook_id: int, body: bytes, correlation_id: str
) -> Hook:
    """Return the hook whose secret signed the message.

    An unknown hook, a revoked one and a wrong signature get the same answer after the same steps.
    """
    peer = state.get_peer(request)
    is_limited = state.failed_auth_limiter.is_limited(peer)

    def is_authentic(hook: Hook) -> bool:
        return has_valid_signature(request, body, hook_secrets(state.settings, hook))

    hook = await state.hook_cache.find(hook_id, is_authentic, use_list=is_limited)
    try:
        require_signature(request, body, hook_secrets(state.settings, hook))
    except Problem as problem:
        if problem.kind is not INVALID_SIGNATURE:
            _log_refused(hook, "stale_timestamp", correlation_id)
            raise
        if is_limited:
            raise state.failed_auth_limiter.problem() from None
        state.failed_auth_limiter.record_failure(peer)
        _log_refused(hook, "invalid_signature", correlation_id)
        raise
    return _require_active(hook)


def _require_active(hook: Hook) -> Hook:
    note_hook(hook)
    if hook.revoked:
        _log_refused(hook, "revoked", None)
        _raise_not_found()
    return hook


def _raise_not_found() -> NoReturn:
    """Give one answer for what never existed, what was revoked, and what is guessed at."""
    raise Problem(NOT_FOUND, "There is no such hook; nothing was stored.")


@contextmanager
def _log_malformed(hook: Hook, correlation_id: str) -> Iterator[None]:
    """Log what is raised inside as well: its sender may not look at responses."""
    try:
        yield
    except (Problem, InvalidRequest):
        _log_refused(hook, "malformed", correlation_id)
        raise


def _log_refused(hook: Hook, why: str, correlation_id: str | None) -> None:
    if hook is DUMMY_HOOK:
        return
    more = {} if correlation_id is None else {"correlation_id": correlation_id}
    log.warning(events.HOOK_REFUSED, hook=hook.id, account=hook.account_id, reason=why, **more)


def _log_adjusted(hook: Hook, adjusted: Sequence[Adjustment], correlation_id: str) -> None:
    if adjusted:
        log.info(
            events.HOOK_ADJUSTED,
            hook=hook.id,
            account=hook.account_id,
            parts=sorted({each.what for each in adjusted}),
            correlation_id=correlation_id,
        )
