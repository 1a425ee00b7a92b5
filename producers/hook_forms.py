"""The form that an automation posts for an opt-out: Keap's "send an http post", for one."""

from collections.abc import Iterable
from typing import NamedTuple

from db.hooks import Hook
from producers.field_names import Meaning
from producers.hook_events import MAX_EVENTS
from producers.hook_fields import (
    MAX_NAMED_FIELDS,
    EventObject,
    Field,
    HookPost,
    OptOutReader,
    ReadingDeadline,
    to_storable_text,
)
from producers.hook_opt_outs import HookOptOut
from producers.invalid_request import input_too_large
from producers.recipient_events import day_key, event_key
from schemas.errors import InvalidRequest
from schemas.json_input import MAX_VALUES, InputTooLarge

_MAX_CONTACT = 40


class ParsedForm(NamedTuple):
    """The opt-outs of a form, nearly always one, and names of fields that hold no address."""

    posts: list[HookPost]
    refused: list[str]


def read_form(fields: Iterable[Field]) -> ParsedForm:
    """Return what the fields say, of each event by itself where there are several.

    What has no address is passed over. Raises InvalidRequest where nothing has, and for too many,
    and ReadingTimeout.
    """
    time = ReadingDeadline()
    readings: dict[EventObject | None, OptOutReader] = {None: OptOutReader()}
    for number, field in enumerate(fields):
        if number == MAX_VALUES:
            # Each of many fields may have JSON with many in it.
            raise input_too_large("The form", InputTooLarge(f"more than {MAX_VALUES:,} values"))
        if field.event not in readings:
            readings[field.event] = OptOutReader()
        time.require_time_left()
        readings[field.event].take(field)
        if len(readings) - 1 > MAX_EVENTS:
            raise InvalidRequest(
                f"The form has more than {MAX_EVENTS:,} events. Nothing was stored. Send fewer at"
                " a time."
            )
    for event, reading in readings.items():
        time.require_time_left()
        reading.settle()
        if event is not None:
            # The one around it came before.
            reading.inherit(readings[event.outer])
    having = [reading for reading in readings.values() if reading.has_address]
    if len(having) == 1:
        having[0].texts = readings[None].texts | having[0].texts
    refused = [
        name
        for reading in readings.values()
        for name in (*reading.refused, *(() if reading.has_address else reading.unknown))
    ]
    # Without an address the last of them tells what is missing.
    posts = [reading.post() for reading in having or list(readings.values())[-1:]]
    return ParsedForm(posts, list(dict.fromkeys(refused))[:MAX_NAMED_FIELDS])


def form_to_opt_out(hook: Hook, form: HookPost) -> HookOptOut:
    """Return the opt-out that the form is."""
    contact = form.texts.get(Meaning.CONTACT_ID)
    note = contact and f"contact {to_storable_text(contact)[:_MAX_CONTACT]} of {hook.source}"
    event_id = form.event_id

    def key(post: HookPost) -> str:
        if event_id is not None:
            return event_key("hook", hook.id, "form", event_id=event_id)
        # The same form is one job a day: the sender posts again when it had no answer.
        return day_key("hook", hook.id, "form", act=[*post.match_keys, note or ""], kind=post.kind)

    return HookOptOut(form, key, note)
