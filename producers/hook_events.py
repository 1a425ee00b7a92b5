"""Events that a sender signs: JSON, one or many at a time, each of one person's opt-out."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import pydantic
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from db.hooks import Hook
from producers.field_names import Meaning, meaning_of
from producers.hook_fields import (
    Adjusted,
    EventObject,
    Field,
    HookPost,
    Reading,
    ReadingTime,
    events_of,
    fields_of,
    kept_text,
    read_message,
    read_post,
)
from producers.hook_opt_outs import Told
from producers.recipient_events import MOST_NOTE, Moment, day_key, event_key
from schemas.errors import WrongInput
from schemas.json_input import Pairs, RepeatedName, repeated_name
from schemas.statuses import RECIPIENT_KINDS

MOST_EVENTS = 10_000

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
        None, description=f"Kept with the job, up to {MOST_NOTE:,} characters of it."
    )


class Event(NamedTuple):
    """An event that opts out. `occurred_at` and `note` are as they can be kept."""

    post: HookPost
    occurred_at: datetime | None
    note: str | None

    @property
    def event_id(self) -> str | None:
        """The sender's own id, as it came."""
        return self.post.event_id

    @property
    def adjusted(self) -> list[Adjusted]:
        """What was passed over or read otherwise than it came."""
        return self.post.adjusted


class BadEvent(NamedTuple):
    """An event of which nothing is stored; `is_repeated` tells that it has a name twice."""

    event_id: str | None
    error: str
    is_repeated: bool = False


def read_events(body: bytes, charset: str = "") -> list[Event | BadEvent]:
    """Return the events of a message, one or a list of them.

    Raises ValueError where the body is not JSON, WrongInput where there is none in it, or there are
    too many, and TakesTooLong.
    """
    given = read_message(body, charset)
    is_list = isinstance(given, list) and not isinstance(given, Pairs)
    number = len(given) if is_list else 1
    time = ReadingTime()
    events: list[Event | BadEvent] = []
    if 0 < number <= MOST_EVENTS:
        for each in given if is_list else [given]:
            events += _events_in(each, time)
        number = len(events)
    if not 0 < number <= MOST_EVENTS:
        raise WrongInput(
            f"The list has {number:,} events. Nothing was stored. Send 1 to {MOST_EVENTS:,}"
            " at a time."
        )
    return events


def _events_in(given: Any, time: ReadingTime) -> list[Event | BadEvent]:
    """Return the event, or those of a list in it, which others stand around."""
    grouped: dict[EventObject | None, list[Field]] = {None: []}
    for field in events_of(given) if isinstance(given, Pairs) else ():
        grouped.setdefault(field.event, []).append(field)
    if len(grouped) == 1:
        time.require_some()
        return [read_event(given)]
    readings: dict[EventObject | None, Reading] = {}
    events: list[Event | BadEvent] = []
    around = {None, *(event.outer for event in grouped if event is not None)}
    for event, fields in grouped.items():
        readings[event] = reading = Reading()
        # What is only around others needs no address of its own.
        is_around = event in around
        try:
            for field in fields:
                time.require_some()
                reading.take(field)
            reading.settle()
            if event is not None:
                reading.inherit(readings[event.outer])
            if is_around and not reading.has_address:
                continue
            bad = None if event is None or is_around else _repeated(event.given, fields)
            events.append(bad or _event(reading.post()))
        except WrongInput as error:
            events.append(BadEvent(_event_id(fields), str(error)))
    return events


def read_event(given: Any) -> Event | BadEvent:
    """Return the event that a value of JSON, as `read_pairs` gives it, is."""
    if not isinstance(given, Pairs):
        return BadEvent(None, "An event has to be an object. Nothing was stored of it.")
    fields = list(fields_of(given))
    if (bad := _repeated(given, fields)) is not None:
        return bad
    try:
        post = read_post(fields)
    except WrongInput as error:
        return BadEvent(_event_id(fields), str(error))
    return _event(post)


def _repeated(given: Pairs, fields: Iterable[Field]) -> BadEvent | None:
    if (name := repeated_name(given)) is None:
        return None
    told = f"The event has {RepeatedName(name)}. Nothing was stored of it. Give each name once."
    return BadEvent(_event_id(fields), told, is_repeated=True)


def _event_id(fields: Iterable[Field]) -> str | None:
    """What the event is called in an answer, where nothing else of it is read."""
    for field in fields:
        if meaning_of(field.name) is Meaning.EVENT_ID:
            return field.text
    return None


def _event(post: HookPost) -> Event:
    adjusted = list(post.adjusted)
    if post.refused:
        told = f"no address was read of {', '.join(post.refused)}"
        adjusted.append(Adjusted("address", told))
    moment = None
    if (text := post.texts.get(Meaning.OCCURRED_AT)) is not None:
        try:
            moment = _MOMENT.validate_python(text)
        except ValidationError:
            told = "it is no time that has passed, with its time zone, and is not kept"
            adjusted.append(Adjusted("occurred_at", told))
    note = post.texts.get(Meaning.NOTE)
    if note is not None and len(note) > MOST_NOTE:
        adjusted.append(Adjusted("note", f"its first {MOST_NOTE:,} characters are kept"))
    return Event(
        post._replace(adjusted=adjusted),
        moment,
        None if note is None else kept_text(note[:MOST_NOTE]),
    )


def told_of_event(hook: Hook, event: Event) -> Told:
    """Return the opt-out that the event is."""
    event_id = event.event_id

    def key(post: HookPost) -> str:
        if event_id is not None:
            return event_key("hook", hook.id, "event", event_id=event_id)
        moment = event.occurred_at and event.occurred_at.isoformat()
        act = [*post.match_keys, moment or "", event.note or ""]
        return day_key("hook", hook.id, "event", act=act, kind=post.kind)

    return Told(event.post, key, event.note, event.occurred_at)
