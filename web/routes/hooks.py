"""Hooks: opt-outs from senders without an API key, as forms or signed events."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from db.hooks import Hook
from producers.fair_executor import run_off_loop
from producers.hook_events import MAX_EVENTS, HookEvent, InvalidEvent, read_events
from producers.hook_fields import Adjustment, to_storable_text
from producers.hook_forms import form_to_opt_out, read_form
from producers.hook_opt_outs import HookOptOut, HookOptOutApplier
from producers.immediate_opt_out import OptOutReceipt
from runtime import events, logs
from schemas.actors import Actor, ActorKind, Via
from schemas.statuses import RECIPIENT_KINDS
from web import problems
from web.form_parser import get_charset, parse_fields
from web.hook_auth import authenticate_form, authenticate_signed, log_problems, log_rejected
from web.params import ANY_PATH, PATH_ID
from web.problems import Problem, problem_responses
from web.request_body import body_openapi, body_schema, form_openapi, is_large
from web.request_notes import get_notes, note_job
from web.state import AppState, State

log = logs.get_logger()
router = APIRouter(tags=["hooks"])

_Adjusted = Annotated[
    list[str] | None, Field(description="What was ignored, or read differently than it came.")
]


class FormResult(BaseModel):
    """What a form did."""

    applied: bool
    created: bool
    rejected_fields: list[str] = Field(description="Names of fields that have no address.")
    adjusted: _Adjusted = None


class EventResult(BaseModel):
    """What an event did. A repeated event changes nothing.

    Its result has `created` false, and `applied` as it is now.

    With `conflict`, its id belongs to a different event; with `error`, it cannot be read. In both
    cases it is neither stored nor applied.
    """

    event_id: str | None = None
    applied: bool = False
    created: bool = False
    conflict: bool = False
    adjusted: _Adjusted = None
    error: str | None = Field(None, description="Why nothing of this event was stored.")


class EventResults(BaseModel):
    """The result of each event, in the order of the events."""

    events: list[EventResult]


_FORM_OPENAPI = form_openapi(
    {
        "email": {"description": "The recipient's address."},
        "email2": {"description": "Another address of the same recipient."},
        "kind": {
            "description": f"One of {', '.join(RECIPIENT_KINDS)}. Any other word means manual."
        },
        "event_id": {"description": "The sender's own id of the event."},
        "contactId": {"description": "Kept as a note with the job."},
    }
)


@router.post(
    f"/v1/hooks/form/{{token:{ANY_PATH}}}",
    summary="Opt out the addresses of a form",
    response_description="The addresses are opted out.",
    responses={
        202: {"model": FormResult, "description": "Stored. It will be applied shortly."},
        **problem_responses(
            problems.IDEMPOTENCY_KEY_REUSED, problems.NOT_FOUND, problems.TOO_MANY_REQUESTS
        ),
    },
    response_model_exclude_none=True,
    openapi_extra=_FORM_OPENAPI,
)
async def post_form(token: str, request: Request, response: Response, state: State) -> FormResult:
    """For senders that can post a form but cannot sign: anyone who has the URL may opt out.

    Addresses of one recipient are in `email`, `EmailAddress2`, `data[email]`, `recipient` and the
    like. Urlencoded, multipart and JSON bodies are read, whatever their content type. `kind` is
    manual unless given. Forms with the same `event_id` make one job. Without an `event_id`, equal
    forms of one day do. Other fields are ignored, but `contactId` or `Id` is kept as a note.
    What was ignored or read differently is listed in `rejected_fields` and `adjusted`.
    Each object in a JSON list is an event of its own.
    """
    hook = await authenticate_form(request, state, token)
    body = await request.body()
    await state.acquire_slot(request, ("hook", hook.id))
    content_type = request.headers.get("content-type", "")
    with log_problems(hook):
        form = await run_off_loop(
            hook.account,
            lambda: read_form(parse_fields(body, content_type)),
            is_long=is_large(body),
        )
    opt_outs = [form_to_opt_out(hook, post) for post in form.posts]
    receipts = await _apply_all(state, hook, opt_outs, Via.HOOK_FORM)
    if None in receipts:
        raise Problem(
            problems.IDEMPOTENCY_KEY_REUSED,
            "An event_id belongs to a different event. Nothing of the events in event_ids was"
            " stored. Send new events with a new id.",
            event_ids=[
                _storable_id(post.event_id)
                for post, receipt in zip(form.posts, receipts, strict=True)
                if receipt is None
            ],
        )
    adjusted = list(dict.fromkeys(each for post in form.posts for each in post.adjusted))
    _log_adjusted(hook, adjusted)
    done = [receipt for receipt in receipts if receipt is not None]
    is_applied = all(receipt.applied for receipt in done)
    if not is_applied:
        response.status_code = HTTPStatus.ACCEPTED
    return FormResult(
        applied=is_applied,
        created=any(receipt.created for receipt in done),
        rejected_fields=form.rejected_fields,
        adjusted=_describe_adjusted(adjusted),
    )


_EVENT_SCHEMA = body_schema(HookEvent)
_EVENTS_OPENAPI: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": True,
            "description": description,
            "schema": {"type": "string"},
        }
        for name, description in {
            "Sluice-Timestamp": "When the request was signed, in Unix seconds.",
            "Sluice-Signature": "`v1=` and the hexadecimal HMAC-SHA256, by the hook's secret, of"
            " the timestamp, a full stop and the body.",
        }.items()
    ],
    **body_openapi(
        {
            "oneOf": [
                _EVENT_SCHEMA,
                {"type": "array", "items": _EVENT_SCHEMA, "minItems": 1, "maxItems": MAX_EVENTS},
            ]
        }
    ),
}


@router.post(
    "/v1/hooks/{hook_id}/events",
    summary="Opt out the addresses of signed events",
    response_description="The addresses are opted out.",
    responses={
        202: {"model": EventResults, "description": "Stored. Some will be applied shortly."},
        **problem_responses(
            problems.IDEMPOTENCY_KEY_REUSED,
            problems.NOT_FOUND,
            problems.INVALID_SIGNATURE,
            problems.STALE_TIMESTAMP,
            problems.TOO_MANY_REQUESTS,
        ),
    },
    response_model_exclude_none=True,
    openapi_extra=_EVENTS_OPENAPI,
)
async def post_events(
    hook_id: Annotated[int, PATH_ID],
    request: Request,
    response: Response,
    state: State,
) -> EventResults:
    """For senders that sign: one event, or a list of events.

    The signature is checked first, over the exact bytes of the body. It is valid for 300 seconds.
    Without a valid one, an existing hook is answered like one that does not exist. Each event is
    applied on its own. One that cannot be read has an `error`, and the others are applied. If none
    can be read, the response is a problem.

    An `event_id` always belongs to one event. A repeated event changes nothing. Its result has
    `created` false, and `applied` as it is now. If an id belongs to a different event, the response
    is the problem 409, and all other valid events are applied. What is not applied within five
    seconds is stored, and workers apply it before all other work.
    """
    body = await request.body()
    hook = await authenticate_signed(request, state, hook_id, body)
    await state.acquire_slot(request, ("hook", hook.id))
    with log_problems(hook):
        charset = get_charset(request.headers.get("content-type", ""))
        given = await run_off_loop(
            hook.account, lambda: _parse_events(body, charset), is_long=is_large(body)
        )
    valid = [event for event in given if isinstance(event, HookOptOut)]
    receipts = iter(await _apply_all(state, hook, valid, Via.HOOK_EVENTS))
    results = [
        _build_result(event, next(receipts))
        if isinstance(event, HookOptOut)
        else _build_error_result(event)
        for event in given
    ]
    if len(valid) < len(given):
        log_rejected(hook, "malformed")
    _log_adjusted(hook, [each for event in valid for each in event.post.adjusted])
    if any(result.conflict for result in results):
        raise Problem(
            problems.IDEMPOTENCY_KEY_REUSED,
            "Events with `conflict` have an event_id that belongs to a different event. All other"
            " valid events were stored. Send new events with a new id.",
            events=_dump_results(results),
        )
    if not all(result.applied or result.error for result in results):
        response.status_code = HTTPStatus.ACCEPTED
    return EventResults(events=results)


def _parse_events(body: bytes, charset: str) -> list[HookOptOut | InvalidEvent]:
    """Return the events of the body, at least one of them valid.

    Raise Problem if none is, and InvalidRequest if there are none or too many.
    """
    try:
        given = read_events(body, charset)
    except ValueError:
        raise Problem(
            problems.MALFORMED,
            "The body is not JSON. Nothing was stored. Send an event, or a list of events.",
        ) from None
    invalid = [event for event in given if isinstance(event, InvalidEvent)]
    if len(invalid) == len(given):
        kind = problems.MALFORMED if invalid[0].is_repeated else problems.INVALID
        results = map(_build_error_result, invalid)
        raise Problem(kind, invalid[0].error, events=_dump_results(results))
    return given


async def _apply_all(
    state: AppState, hook: Hook, opt_outs: Sequence[HookOptOut], via: Via
) -> list[OptOutReceipt | None]:
    """Apply the opt-outs; a receipt is None if its event id belongs to a different event."""
    actor = Actor(ActorKind.HOOK, via, hook.id)
    applier = HookOptOutApplier(state.pool, state.settings, hook, actor, get_notes().correlation_id)
    receipts = await applier.apply(opt_outs)
    for receipt in receipts:
        if receipt is None:
            log_rejected(hook, "key_reused")
        else:
            note_job(receipt.job_id)
    return receipts


def _build_result(event: HookOptOut, receipt: OptOutReceipt | None) -> EventResult:
    event_id = _storable_id(event.post.event_id)
    if receipt is None:
        return EventResult(event_id=event_id, conflict=True)
    return EventResult(
        event_id=event_id,
        applied=receipt.applied,
        created=receipt.created,
        adjusted=_describe_adjusted(event.post.adjusted),
    )


def _build_error_result(event: InvalidEvent) -> EventResult:
    return EventResult(event_id=_storable_id(event.event_id), error=event.error)


def _storable_id(event_id: str | None) -> str | None:
    return event_id and to_storable_text(event_id)


def _dump_results(results: Iterable[EventResult]) -> list[dict[str, Any]]:
    return [result.model_dump(exclude_none=True) for result in results]


def _describe_adjusted(adjusted: Sequence[Adjustment]) -> list[str] | None:
    return [str(each) for each in adjusted] or None


def _log_adjusted(hook: Hook, adjusted: Sequence[Adjustment]) -> None:
    if adjusted:
        log.info(
            events.HOOK_ADJUSTED,
            hook=hook.id,
            account=hook.account_id,
            parts=sorted({each.what for each in adjusted}),
        )
