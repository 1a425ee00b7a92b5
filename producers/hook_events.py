"""Events that a sender signs: JSON, one or many at a time, each of one person's opt-out."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from db.hooks import Hook
from producers.field_names import Meaning, field_meaning
from producers.hook_fields import (
    Adjustment,
    EventObject,
    Field,
    HookPost,
    OptOutReader,
    ReadingDeadline,
    iterate_events,
    iterate_fields,
    read_message,
    read_post,
    to_storable_text,
)
from producers.hook_opt_outs import HookOptOut
from producers.recipient_events import MAX_NOTE_LENGTH, Moment, day_key, event_key
from schemas.errors import InvalidRequest
from schemas.json_input import DuplicateName, Pairs, find_duplicate_name
from schemas.statuses import RECIPIENT_KINDS

MAX_EVENTS = 10_000

_MOMENT = TypeAdapter(Moment)


class HookEvent(BaseModel):
    """One recipient's opt-out, as the sender of a hook tells it: for the OpenAPI document.

    Only an address is needed. What else is odd, unknown or not there loses no opt-out.
    """

    model_config = ConfigDict(extra="allow")

    address: str = pydantic.Field(
        description="The address that was opted out. Other names of it are read as in a form, and"
        " further addresses of the same person too."
    )
    kind: Any = pydantic.Field(
        None,
        description=f"How: {', '.join(kind.value for kind in RECIPIENT_KINDS)}. Anything else"
        " counts as manual, and is told of in `adjusted`.",
    )
    event_id: Any = pydantic.Field(
        None,
        description="The sender's own id, by which it is one event. Without one the same event is"
        " one a day.",
    )
    occurred_at: Any = pydantic.Field(
        None, description="When it happened, with its time zone; not in the future."
    )
    note: Any = pydantic.Field(
        None, description=f"Kept with the job, up to {MAX_NOTE_LENGTH:,} characters of it."
    )


class OptOutEvent(NamedTuple):
    """An event that opts out. `occurred_at` and `note` are as they can be kept."""

    post: HookPost
    occurred_at: datetime | None
    note: str | None

    @property
    def event_id(self) -> str | None:
        """The sender's own id, as it came."""
        return self.post.event_id

    @property
    def adjusted(self) -> list[Adjustment]:
        """What was passed over or read otherwise than it came."""
        return self.post.adjusted


class InvalidEvent(NamedTuple):
    """An event of which nothing is stored; `is_repeated` tells that it has a name twice."""

    event_id: str | None
    error: str
    is_repeated: bool = False


def read_events(body: bytes, charset: str = "") -> list[OptOutEvent | InvalidEvent]:
    """Return the events of a message, one or a list of them.

    Raises ValueError where the body is not JSON, InvalidRequest where there is none in it, or there
    are too many, and ReadingTimeout.
    """
    given = read_message(body, charset)
    is_list = isinstance(given, list) and not isinstance(given, Pairs)
    number = len(given) if is_list else 1
    time = ReadingDeadline()
    events: list[OptOutEvent | InvalidEvent] = []
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


def _read_events_in(given: Any, time: ReadingDeadline) -> list[OptOutEvent | InvalidEvent]:
    """Return the event, or those of a list in it, which others stand around."""
    grouped: dict[EventObject | None, list[Field]] = {None: []}
    for field in iterate_events(given) if isinstance(given, Pairs) else ():
        grouped.setdefault(field.event, []).append(field)
    if len(grouped) == 1:
        time.require_time_left()
        return [read_event(given)]
    readings: dict[EventObject | None, OptOutReader] = {}
    events: list[OptOutEvent | InvalidEvent] = []
    around = {None, *(event.outer for event in grouped if event is not None)}
    for event, fields in grouped.items():
        readings[event] = reading = OptOutReader()
        # What is only around others needs no address of its own.
        is_around = event in around
        try:
            for field in fields:
                time.require_time_left()
                reading.take(field)
            reading.settle()
            if event is not None:
                reading.inherit(readings[event.outer])
            if is_around and not reading.has_address:
                continue
            bad = (
                None if event is None or is_around else _check_duplicate_names(event.given, fields)
            )
            events.append(bad or _to_event(reading.post()))
        except InvalidRequest as error:
            events.append(InvalidEvent(_find_event_id(fields), str(error)))
    return events


def read_event(given: Any) -> OptOutEvent | InvalidEvent:
    """Return the event that a value of JSON, as `read_pairs` gives it, is."""
    if not isinstance(given, Pairs):
        return InvalidEvent(None, "An event has to be an object. Nothing was stored of it.")
    fields = list(iterate_fields(given))
    if (bad := _check_duplicate_names(given, fields)) is not None:
        return bad
    try:
        post = read_post(fields)
    except InvalidRequest as error:
        return InvalidEvent(_find_event_id(fields), str(error))
    return _to_event(post)


def _check_duplicate_names(given: Pairs, fields: Iterable[Field]) -> InvalidEvent | None:
    if (name := find_duplicate_name(given)) is None:
        return None
    told = f"The event has {DuplicateName(name)}. Nothing was stored of it. Give each name once."
    return InvalidEvent(_find_event_id(fields), told, is_repeated=True)


def _find_event_id(fields: Iterable[Field]) -> str | None:
    """Return the id that names the event in an answer if nothing else of it is read."""
    for field in fields:
        if field_meaning(field.name) is Meaning.EVENT_ID:
            return field.text
    return None


def _to_event(post: HookPost) -> OptOutEvent:
    adjusted = list(post.adjusted)
    if post.refused:
        told = f"no address was read of {', '.join(post.refused)}"
        adjusted.append(Adjustment("address", told))
    moment = None
    if (text := post.texts.get(Meaning.OCCURRED_AT)) is not None:
        try:
            moment = _MOMENT.validate_python(text)
        except ValidationError:
            told = "it is no time that has passed, with its time zone, and is not kept"
            adjusted.append(Adjustment("occurred_at", told))
    note = post.texts.get(Meaning.NOTE)
    if note is not None and len(note) > MAX_NOTE_LENGTH:
        adjusted.append(Adjustment("note", f"its first {MAX_NOTE_LENGTH:,} characters are kept"))
    return OptOutEvent(
        post._replace(adjusted=adjusted),
        moment,
        None if note is None else to_storable_text(note[:MAX_NOTE_LENGTH]),
    )


def event_to_opt_out(hook: Hook, event: OptOutEvent) -> HookOptOut:
    """Return the opt-out that the event is."""
    event_id = event.event_id

    def key(post: HookPost) -> str:
        if event_id is not None:
            return event_key("hook", hook.id, "event", event_id=event_id)
        moment = event.occurred_at and event.occurred_at.isoformat()
        act = [*post.match_keys, moment or "", event.note or ""]
        return day_key("hook", hook.id, "event", act=act, kind=post.kind)

    return HookOptOut(event.post, key, event.note, event.occurred_at)
