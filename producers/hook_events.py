"""Events that a sender signs: JSON, one or up to a hundred at a time."""

from typing import Any

from pydantic import BaseModel, Field, ValidationError

from db.hooks import Hook
from producers.recipient_acts import RecipientAct, event_key, request_of
from producers.wrong_input import refuse_unstorable, wrong_input
from schemas.requests import JobRequest, ShortText

MOST_EVENTS = 100


class HookEvent(RecipientAct):
    """One recipient's opt-out, as the sender of a hook tells it."""

    event_id: ShortText = Field(description="The sender's own id, by which it is one event.")


class _Events(BaseModel):
    events: list[HookEvent] = Field(min_length=1, max_length=MOST_EVENTS)


def parse_events(given: Any) -> list[HookEvent]:
    """The events that were given, one or a list of them; raises WrongInput."""
    refuse_unstorable("The body", given)
    try:
        if isinstance(given, list):
            return _Events(events=given).events
        return [HookEvent.model_validate(given)]
    except ValidationError as error:
        raise wrong_input("The body", error, HookEvent) from None


def request_of_event(hook: Hook, event: HookEvent, correlation_id: str) -> JobRequest:
    """The opt-out that the event is; raises WrongInput."""
    return request_of(
        account=hook.account,
        addresses=[event.address],
        kind=event.kind,
        source=hook.source,
        key=event_key("hook", hook.id, "event", event_id=event.event_id),
        requested_by=f"hook {hook.id} ({hook.source})",
        correlation_id=correlation_id,
        occurred_at=event.occurred_at,
        note=event.note,
    )
