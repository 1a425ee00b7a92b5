"""Read the form that an automation posts for an opt-out, such as Keap's "send an http post"."""

from collections.abc import Iterable
from typing import NamedTuple

from db.hooks import Hook
from producers.field_names import Meaning
from producers.hook_events import MAX_EVENTS
from producers.hook_fields import (
    MAX_NAMED_FIELDS,
    HookPost,
    OptOutReader,
    ReadingDeadline,
    to_storable_text,
)
from producers.hook_json import EventObject, Field
from producers.hook_opt_outs import HookOptOut
from producers.invalid_request import input_too_large
from schemas.errors import InvalidRequest
from schemas.json_input import MAX_VALUES, InputTooLarge

_MAX_CONTACT = 40


class ParsedForm(NamedTuple):
    """The opt-outs of a form, nearly always one, and address fields without a valid address."""

    posts: list[HookPost]
    rejected_fields: list[str]


def read_form(fields: Iterable[Field]) -> ParsedForm:
    """Read the fields of each event, and ignore events without an address.

    Raises InvalidRequest if no event has one, or for too many events, and ReadingTimeout.
    """
    time = ReadingDeadline()
    readings: dict[EventObject | None, OptOutReader] = {None: OptOutReader()}
    for number, field in enumerate(fields):
        if number == MAX_VALUES:
            # Each of many fields may be JSON with many values.
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
        # The event around it comes first.
        reading.settle(readings[event.outer] if event else None)
    having = [reading for reading in readings.values() if reading.has_address]
    if len(having) == 1:
        having[0].texts = readings[None].texts | having[0].texts
    rejected_fields = [
        name
        for reading in readings.values()
        for name in (*reading.rejected_fields, *(() if reading.has_address else reading.unknown))
    ]
    # Without any address, the last reading raises the error.
    posts = [reading.post() for reading in having or list(readings.values())[-1:]]
    return ParsedForm(posts, list(dict.fromkeys(rejected_fields))[:MAX_NAMED_FIELDS])


def form_to_opt_out(hook: Hook, form: HookPost) -> HookOptOut:
    """Return the opt-out of the form."""
    contact = form.texts.get(Meaning.CONTACT_ID)
    note = contact and f"contact {to_storable_text(contact)[:_MAX_CONTACT]} of {hook.source}"
    return HookOptOut(form, note)
