"""Read signed events: JSON, one or many at a time, each of one person's opt-out."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from producers.field_names import Meaning, field_meaning
from producers.hook_fields import (
    Adjustment,
    HookPost,
    OptOutReader,
    ReadingDeadline,
    to_storable_text,
)
from producers.hook_json import EventObject, Field, iterate_events, read_body
from producers.hook_opt_outs import HookOptOut
from producers.recipient_events import MAX_NOTE_LENGTH, Moment
from schemas.errors import InvalidRequest
from schemas.json_input import DuplicateName, Pairs, find_duplicate_name
from schemas.statuses import RECIPIENT_KINDS

MAX_EVENTS = 10_000

_MOMENT = TypeAdapter(Moment)


class HookEvent(BaseModel):
    """One recipient's opt-out, as the sender of a hook reports it.

    Only an address is needed. Anything else that is missing, unknown or invalid loses no opt-out.
    """

    model_config = ConfigDict(extra="allow")

    address: str = pydantic.Field(
        description="The address that was opted out. As in a form, the field may have other names,"
        " and further fields may have further addresses of the same person."
    )
    kind: Any = pydantic.Field(
        None,
        description=f"How: {', '.join(kind.value for kind in RECIPIENT_KINDS)}. Anything else"
        " counts as manual, and is reported in `adjusted`.",
    )
    event_id: Any = pydantic.Field(
        None,
        description="The sender's own id of the event. Without an id, the same event counts once"
        " a day.",
    )
    occurred_at: Any = pydantic.Field(
        None, description="When it happened, with its time zone; not in the future."
    )
    note: Any = pydantic.Field(
        None, description=f"Stored with the job, up to {MAX_NOTE_LENGTH:,} characters of it."
    )


class InvalidEvent(NamedTuple):
    """An event of which nothing is stored; `is_repeated` if it has a name twice."""

    event_id: str | None
    error: str
    is_repeated: bool = False


def read_events(body: bytes, charset: str = "") -> list[HookOptOut | InvalidEvent]:
    """Return the events of a body, one or a list of them.

    Raises ValueError if the body is not JSON, InvalidRequest for no or too many events, and
    ReadingTimeout.
    """
    given = read_body(body, charset)
    is_list = isinstance(given, list) and not isinstance(given, Pairs)
    number = len(given) if is_list else 1
    time = ReadingDeadline()
    events: list[HookOptOut | InvalidEvent] = []
    if 0 < number <= MAX_EVENTS:
        for each in given if is_list else [given]:
            events += _read_events_in(each, time)
        number = len(events)
    if not 0 < number <= MAX_EVENTS:
        raise InvalidRequest(
            f"The list has {number:,} events. Nothing was stored. Send 1 to {MAX_EVENTS:,}"
            " at a time."
        )
    return events


def _read_events_in(given: Any, time: ReadingDeadline) -> list[HookOptOut | InvalidEvent]:
    if not isinstance(given, Pairs):
        return [InvalidEvent(None, "An event must be a JSON object. Nothing was stored of it.")]
    grouped: dict[EventObject | None, list[Field]] = {None: []}
    for field in iterate_events(given):
        grouped.setdefault(field.event, []).append(field)
    around = {event.outer for event in grouped if event is not None}
    readings: dict[EventObject | None, OptOutReader] = {}
    events: list[HookOptOut | InvalidEvent] = []
    for event, fields in grouped.items():
        # An event around others needs no address of its own.
        is_around = event in around
        if not is_around and (
            bad := _check_duplicate_names(event.given if event else given, fields)
        ):
            events.append(bad)
            continue
        readings[event] = reading = OptOutReader()
        try:
            for field in fields:
                time.require_time_left()
                reading.take(field)
            reading.settle(readings[event.outer] if event else None)
            if reading.has_address or not is_around:
                events.append(_to_opt_out(reading.post()))
        except InvalidRequest as error:
            events.append(InvalidEvent(_find_event_id(fields), str(error)))
    return events


def _check_duplicate_names(given: Pairs, fields: Iterable[Field]) -> InvalidEvent | None:
    if (name := find_duplicate_name(given)) is None:
        return None
    told = f"The event has {DuplicateName(name)}. Nothing was stored of it. Give each name once."
    return InvalidEvent(_find_event_id(fields), told, is_repeated=True)


def _find_event_id(fields: Iterable[Field]) -> str | None:
    """Return the id for the response, if nothing else of the event is read."""
    ids = (field.text for field in fields if field_meaning(field.name) is Meaning.EVENT_ID)
    return next(ids, None)


def _to_opt_out(post: HookPost) -> HookOptOut:
    adjusted = list(post.adjusted)
    if post.rejected_fields:
        told = f"no address was read of {', '.join(post.rejected_fields)}"
        adjusted.append(Adjustment("address", told))
    moment = None
    if (text := post.texts.get(Meaning.OCCURRED_AT)) is not None:
        try:
            moment = _MOMENT.validate_python(text)
        except ValidationError:
            told = "it is not a past time with its time zone, and was not stored"
            adjusted.append(Adjustment("occurred_at", told))
    note = post.texts.get(Meaning.NOTE)
    if note is not None and len(note) > MAX_NOTE_LENGTH:
        adjusted.append(Adjustment("note", f"its first {MAX_NOTE_LENGTH:,} characters were stored"))
    note = note and to_storable_text(note[:MAX_NOTE_LENGTH])
    return HookOptOut(post._replace(adjusted=adjusted), note, moment)
