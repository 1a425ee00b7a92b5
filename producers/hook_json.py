"""Walk the JSON that a hook receives, in the body or in a field of a form, as named fields."""

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from producers.field_names import Meaning, field_meaning, is_address_list
from producers.file_text import find_charset
from producers.invalid_request import input_too_large
from schemas.json_input import InputTooLarge, Pairs, read_pairs

_MAX_LEVELS = 32
"""Levels of JSON that are read."""

_OWN_LEVELS = 4
"""How deep in an object an address makes it an event."""

_SEVERAL = 2

_MAX_PATH = 300
"""Longer names are cut; none of them has a meaning."""


@dataclass(eq=False)
class EventObject:
    """One of several events in JSON, compared by identity, and the event around it, if any."""

    given: Pairs
    outer: "EventObject | None"


class Field(NamedTuple):
    """A field as received. In a form that is not multipart a blank may have been a plus sign.

    Fields of one of several events have the same `event`.
    """

    name: str
    text: str
    blank_is_plus: bool = False
    event: EventObject | None = None


def decode_text(raw: bytes, charset: str = "") -> str:
    """Decode the text as UTF-8, or else in the charset that the sender named.

    Other bytes become unpaired surrogates, which no address has.
    """
    with suppress(UnicodeError):
        return raw.decode()
    with suppress(UnicodeError):
        return raw.decode(find_charset(charset) or "utf-8")
    return raw.decode(errors="surrogateescape")


def read_body(body: bytes, charset: str = "") -> Any:
    """Return the JSON of a body, as `read_pairs` does, with any bytes in its texts.

    Raises ValueError if it is not JSON, and InvalidRequest if it has too many values.
    """
    encoding = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        return _read_pairs(decode_text(body.removeprefix(codecs.BOM_UTF8), charset))
    return _read_pairs(body.decode(encoding, "replace"))


def _read_pairs(text: str) -> Any:
    try:
        return read_pairs(text)
    except InputTooLarge as error:
        raise input_too_large("The request", error) from None


def iterate_events(value: Any, path: str = "") -> Iterator[Field]:
    """Yield the texts and numbers of JSON from `read_pairs`, each named by its path.

    Each of several objects in a list is an event. The value itself is such a list, unless it lists
    the addresses of one person. A list inside it is one if two or more of its objects have an
    address. Each event begins with an empty field.
    """
    is_list = _objects_in(value) >= _SEVERAL and not is_address_list(path)
    yield from _iterate_events(value, path, None, _MAX_LEVELS, are_events=is_list)


def _iterate_events(
    value: Any, path: str, outer: EventObject | None, levels: int, *, are_events: bool
) -> Iterator[Field]:
    if not isinstance(value, list) or not levels:
        yield from _iterate_fields(value, path, levels, outer)
        return
    for name, part in _parts(value):
        within = _within(path, name)
        event = outer
        if are_events and isinstance(part, Pairs):
            event = EventObject(part, outer)
            yield Field("", "", event=event)
        several = _are_events(part, within)
        yield from _iterate_events(part, within, event, levels - 1, are_events=several)


def _are_events(value: Any, path: str) -> bool:
    if _objects_in(value) < _SEVERAL or is_address_list(path):
        return False
    # Only to a depth, because each level above repeats the search.
    having = (
        True
        for name, part in _parts(value)
        if isinstance(part, Pairs)
        and any(
            "@" in field.text and field_meaning(field.name) is Meaning.ADDRESS
            for field in _iterate_fields(part, _within(path, name), _OWN_LEVELS)
        )
    )
    return len(list(islice(having, _SEVERAL))) == _SEVERAL


def _objects_in(value: Any) -> int:
    is_list = isinstance(value, list) and not isinstance(value, Pairs)
    return sum(isinstance(part, Pairs) for part in value) if is_list else 0


def expand_json_fields(fields: Iterable[Field]) -> Iterator[Field]:
    """Yield the fields; of a field whose text is JSON, yield the fields in it."""
    for field in fields:
        value = _json_in(field)
        if value is None:
            yield field
        else:
            for each in iterate_events(value, field.name):
                yield each._replace(blank_is_plus=True) if field.blank_is_plus else each


def _json_in(field: Field) -> Any:
    """Return the object or list; None if there is none, or the plain text has a meaning."""
    text = field.text.strip()
    if text[:1] + text[-1:] not in {"{}", "[]"}:
        return None
    if field_meaning(field.name) not in {None, Meaning.ADDRESS}:
        return None
    try:
        return _read_pairs(text)
    except ValueError:
        return None


def _iterate_fields(
    value: Any, path: str, levels: int, event: EventObject | None = None
) -> Iterator[Field]:
    if isinstance(value, str):
        yield Field(path, value, event=event)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        text = str(value) if isinstance(value, int) else json.dumps(value)
        yield Field(path, text, event=event)
    elif isinstance(value, list) and levels:
        for name, part in _parts(value):
            yield from _iterate_fields(part, _within(path, name), levels - 1, event)


def _parts(value: list[Any]) -> Iterable[tuple[str, Any]]:
    return value if isinstance(value, Pairs) else ((str(n), x) for n, x in enumerate(value))


def _within(path: str, name: str) -> str:
    # Cut, so that many members do not each repeat a very long name.
    return f"{path}.{name}"[:_MAX_PATH] if path else name[:_MAX_PATH]
