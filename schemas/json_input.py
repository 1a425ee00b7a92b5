"""Reading JSON from outside: a request, a hook's post, a line or a file of a list.

If an object has a name twice, parsers silently keep the last value. One of two addresses would be
lost, or that a job should only be planned. So neither `json.loads` nor a model's own parser reads
anything from outside.

A value takes a hundred times as much memory as it has bytes, and a wrong one a thousand times. So
values are counted before they are made.
"""

import json
from collections import Counter
from typing import Any

MAX_VALUES = 300_000
"""The most values in a text: three times the longest list that a request may have."""

MAX_NAMES = 1_000
"""The most names in an object of a request, since each unknown one makes an error."""

_MAX_LEVELS = 64
"""How deep `find_duplicate_name` looks into a value."""

_MAX_SHOWN = 40


class DuplicateName(ValueError):
    """An object has a name more than once. The text is a clause that says which."""

    def __init__(self, name: str) -> None:
        shown = repr(name) if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]!r}…"
        super().__init__(f"{shown} twice in one object")
        self.name = name


class InputTooLarge(ValueError):
    """The JSON is too large. The text of the error is a clause that says why."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as its names and values in order, with duplicates."""


def read_json(text: str | bytes) -> Any:
    """Return the value of the text. A whole number too long to be read is one of a hundred digits.

    Raises DuplicateName where an object has a name twice, InputTooLarge where the text has more
    than `MAX_VALUES`, or an object more than `MAX_NAMES`, and ValueError for what is not JSON, is
    not text, or is nested too deep.
    """
    return _read(text, _UNIQUE, _UNIQUE_HUGE)


def read_pairs(text: str | bytes) -> Any:
    """Return the value of the text, each object as `Pairs`, so that no repeated name is lost. A
    whole number too long to be read is the text of its digits.

    Raises ValueError as `read_json` does, but neither for control characters in a text, which are
    kept, nor for the number of names.
    """
    return _read(text, _PAIRS, _PAIRS_HUGE)


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether the value, as `read_json` gives it, has more levels of lists and objects."""
    level = [value]
    for _ in range(levels):
        level = [
            part
            for item in level
            if isinstance(item, list | dict)
            for part in (item if isinstance(item, list) else item.values())
        ]
    return any(isinstance(item, list | dict) for item in level)


def find_duplicate_name(value: Any) -> str | None:
    """Return a name that an object in the value, as `read_pairs` gives it, has twice."""
    level = [value]
    for _ in range(_MAX_LEVELS):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, Pairs):
                if len(dict(item)) != len(item):
                    return _most_frequent(item)
                deeper += [part for _, part in item]
            elif isinstance(item, list):
                deeper += item
        if not deeper:
            return None
        level = deeper
    return None


def _read(text: str | bytes, decoder: json.JSONDecoder, huge_decoder: json.JSONDecoder) -> Any:
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    _require_few_values(text)
    try:
        try:
            return decoder.decode(text)
        except (json.JSONDecodeError, DuplicateName, InputTooLarge):
            raise
        except ValueError:
            # Python reads no number of more than 4,300 digits.
            return huge_decoder.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _require_few_values(text: str) -> None:
    """Raise InputTooLarge if the text certainly has too many values."""
    if (
        _count_separators(text) > MAX_VALUES
        and _count_separators(_without_strings(text)) > MAX_VALUES
    ):
        raise InputTooLarge(f"more than {MAX_VALUES:,} values")


def _count_separators(text: str) -> int:
    """Count what precedes a value: every value but one follows a comma, a bracket or a brace."""
    return sum(map(text.count, ",[{"))


def _without_strings(text: str) -> str:
    """Return the text without JSON strings, which may contain any number of commas."""
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    return "".join(unescaped.split('"')[::2])


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_NAMES:
        raise InputTooLarge(f"more than {MAX_NAMES:,} names in one object")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DuplicateName(_most_frequent(pairs))
    return found


def _most_frequent(pairs: list[tuple[str, Any]]) -> str:
    return Counter(name for name, _ in pairs).most_common(1)[0][0]


_MAX_DIGITS = 100
_HUGE: int = 10 ** (_MAX_DIGITS - 1)


def _parse_bounded(digits: str) -> int:
    """Return the number; in place of a longer one, one that is as wrong wherever it is."""
    if len(digits) <= _MAX_DIGITS:
        return int(digits)
    return -_HUGE if digits.startswith("-") else _HUGE


def _parse_or_keep(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


_UNIQUE = json.JSONDecoder(object_pairs_hook=_unique_names)
_UNIQUE_HUGE = json.JSONDecoder(object_pairs_hook=_unique_names, parse_int=_parse_bounded)
_PAIRS = json.JSONDecoder(object_pairs_hook=Pairs, strict=False)
_PAIRS_HUGE = json.JSONDecoder(object_pairs_hook=Pairs, strict=False, parse_int=_parse_or_keep)
