"""Reading JSON from outside: a request, a hook's message, a line or a file of a list.

If an object has a name twice, parsers silently keep the last value. One of two addresses would be
lost, or that a job should only be planned. So neither `json.loads` nor a model's own parser reads
anything from outside.

A value takes a hundred times as much memory as it has bytes, and a wrong one a thousand times. So
values are counted before they are made.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

MAX_VALUES = 300_000
"""As many values a text may have: three times what a list within a request may have."""

MAX_NAMES = 1_000
"""As many names an object of a request may have: each one that is unknown is a mistake."""

_MAX_LEVELS = 64
"""How deep `find_duplicate_name` looks into what `read_pairs` has read."""


_MAX_SHOWN = 40


class DuplicateName(ValueError):
    """An object has this name more than once. The text is a clause that says so."""

    def __init__(self, name: str) -> None:
        shown = repr(name) if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]!r}…"
        super().__init__(f"{shown} twice in one object")
        self.name = name


class InputTooLarge(ValueError):
    """The text has more than is read. The text of the error is a clause that says so."""


class Pairs(list[tuple[str, Any]]):
    """An object of JSON with all that it has: its names and values, in their order."""


def read_json(text: str | bytes) -> Any:
    """Return the value of the text. A whole number too long to be read is one of a hundred digits.

    Raises DuplicateName where an object has a name twice, InputTooLarge where the text has more
    than `MAX_VALUES`, or an object more than `MAX_NAMES`, and ValueError for what is not JSON, is
    not text, or is nested too deep.
    """
    return _read(text, _SINGLE, _SINGLE_HUGE)


def read_pairs(text: str | bytes) -> Any:
    """Return the value of the text, each object as `Pairs`, so that no repeated name is lost. A
    whole number too long to be read is the text of its digits.

    Raises ValueError as `read_json` does, but neither for control characters in a text, which are
    kept, nor for the number of names.
    """
    return _read(text, _ALL, _ALL_HUGE)


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


def _read(text: str | bytes, decoder: json.JSONDecoder, of_huge: json.JSONDecoder) -> Any:
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    _require_few_values(text)
    try:
        try:
            return decoder.decode(text)
        except (json.JSONDecodeError, DuplicateName, InputTooLarge):
            raise
        except ValueError:
            # Python reads no number of more than some thousand digits.
            return of_huge.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _require_few_values(text: str) -> None:
    """Raise InputTooLarge where the text cannot but have too many values."""
    if (
        _count_separators(text) > MAX_VALUES
        and _count_separators(_without_strings(text)) > MAX_VALUES
    ):
        raise InputTooLarge(f"more than {MAX_VALUES:,} values")


def _count_separators(text: str) -> int:
    """Count the marks that begin a value: each value but one follows a comma, a bracket
    or a brace.
    """
    return sum(map(text.count, ",[{"))


def _without_strings(text: str) -> str:
    """Return the text outside JSON strings: an address in a string may contain any number of
    commas.
    """
    unescaped = text.replace("\\\\", "").replace('\\"', "")
    return "".join(unescaped.split('"')[::2])


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_NAMES:
        raise InputTooLarge(f"an object with {len(pairs):,} names, and {MAX_NAMES:,} are the most")
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


def _unique_name_decoder(parse_int: Callable[[str], Any] | None = None) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_unique_names, parse_int=parse_int)


def _pairs_decoder(parse_int: Callable[[str], Any] | None = None) -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=Pairs, strict=False, parse_int=parse_int)


_SINGLE, _SINGLE_HUGE = _unique_name_decoder(), _unique_name_decoder(_parse_bounded)
_ALL, _ALL_HUGE = _pairs_decoder(), _pairs_decoder(_parse_or_keep)
