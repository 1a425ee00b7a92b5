"""Reading JSON that comes from outside: a request, a hook's message, a line or a file of a list.

Where an object has a name twice, parsers keep the last value and lose the other without a word: one
of two addresses, or that a job was only to be planned. So nothing from outside is read by
`json.loads` or by a model's own parser alone.
"""

import json
from collections import Counter
from typing import Any

_MAX_LEVELS = 64
"""How deep `repeated_name` looks into what `read_pairs` has read."""


_MAX_SHOWN = 40


class RepeatedName(ValueError):
    """An object has this name more than once. The text is a clause that says so."""

    def __init__(self, name: str) -> None:
        shown = repr(name) if len(name) <= _MAX_SHOWN else f"{name[:_MAX_SHOWN]!r}…"
        super().__init__(f"{shown} twice in one object")
        self.name = name


class Pairs(list[tuple[str, Any]]):
    """An object of JSON with all that it has: its names and values, in their order."""


def read_json(text: str | bytes) -> Any:
    """Return the value of the text.

    Raises RepeatedName where an object has a name twice, and ValueError for what is not JSON, is
    not text, or is nested too deep.
    """
    return _read(text, _SINGLE)


def read_pairs(text: str | bytes) -> Any:
    """Return the value of the text, each object as `Pairs`, so that no repeated name is lost.

    Raises ValueError as `read_json` does, but for control characters in a text, which are kept.
    """
    return _read(text, _ALL)


def repeated_name(value: Any) -> str | None:
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


def _read(text: str | bytes, decoder: json.JSONDecoder) -> Any:
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        return decoder.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _single_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatedName(_most_frequent(pairs))
    return found


def _most_frequent(pairs: list[tuple[str, Any]]) -> str:
    return Counter(name for name, _ in pairs).most_common(1)[0][0]


_SINGLE = json.JSONDecoder(object_pairs_hook=_single_names)
_ALL = json.JSONDecoder(object_pairs_hook=Pairs, strict=False)
