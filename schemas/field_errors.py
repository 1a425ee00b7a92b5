"""What is wrong with a value, in sentences of our own: pydantic finds it, and does not speak.

Each sentence says what to give. A kind of error without a sentence here gets a general one, so that
new errors of pydantic's are told in plain words too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_SHOWN_LENGTH = 40
"""Characters of a wrong value that are repeated to the person who gave it."""

_MAX_INDEX_DIGITS = 10

Context = Mapping[str, Any]

_GENERAL = "This value is not accepted."
_NUMBER = "Give a number."
_WHOLE = "Give a whole number."
_TEXT = "Give text."
_LIST = "Give a list."
_OBJECT = "Give an object with names and values."
_DAY = "Give a day as YYYY-MM-DD."
_TIME = "Give a time as HH:MM:SS."
_MOMENT = "Give a date and time with its offset, as 2025-03-01T08:00:00Z."
_DURATION = "Give a duration, as PT1H30M."
_URL = "Give a full http or https URL."
_UUID = "Give a UUID."
_YES_NO = "Give true or false."
_EMPTY = "It is empty."
_FUTURE = "It must not be in the future."
_PAST = "It must be in the future."

_SENTENCES: Mapping[str, str | Callable[[Context], str]] = {
    "missing": "It is required, and missing.",
    "missing_argument": "It is required, and missing.",
    "missing_keyword_only_argument": "It is required, and missing.",
    "missing_positional_only_argument": "It is required, and missing.",
    "none_required": "Leave it out, or give null.",
    "greater_than": lambda it: f"Give more than {_format_number(it['gt'])}.",
    "greater_than_equal": lambda it: f"Give {_format_number(it['ge'])} or more.",
    "less_than": lambda it: f"Give less than {_format_number(it['lt'])}.",
    "less_than_equal": lambda it: f"Give {_format_number(it['le'])} or less.",
    "multiple_of": lambda it: f"Give a multiple of {_format_number(it['multiple_of'])}.",
    "finite_number": "Give a number that is not infinite.",
    "too_short": lambda it: f"Give {_format_count(it['min_length'], 'entry', 'entries')} or more.",
    "too_long": lambda it: f"Give {_format_count(it['max_length'], 'entry', 'entries')} at most.",
    "string_too_short": lambda it: (
        f"{_EMPTY} Give some text, or leave it out."
        if it["min_length"] == 1
        else f"Give {_format_count(it['min_length'], 'character', 'characters')} or more."
    ),
    "string_too_long": lambda it: (
        f"Give {_format_count(it['max_length'], 'character', 'characters')} at most."
    ),
    "bytes_too_short": lambda it: (
        f"Give {_format_count(it['min_length'], 'byte', 'bytes')} or more."
    ),
    "bytes_too_long": lambda it: (
        f"Give {_format_count(it['max_length'], 'byte', 'bytes')} at most."
    ),
    "string_pattern_mismatch": lambda it: f"It does not have the form {it['pattern']}.",
    "string_unicode": "It has a character that is not valid Unicode.",
    "string_not_ascii": "Give text in ASCII.",
    "enum": lambda it: _list_choices(it["expected"]),
    "literal_error": lambda it: _list_choices(it["expected"]),
    "union_tag_invalid": lambda it: _list_choices(it["expected_tags"]),
    "value_error": lambda it: to_sentence(str(it["error"])),
    "assertion_error": lambda it: to_sentence(str(it["error"])),
    "json_invalid": "It is not JSON.",
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "int_from_float": "Give a whole number, without a fraction.",
    "int_parsing_size": "Give a smaller number.",
    "string_type": _TEXT,
    "decimal_max_digits": lambda it: (
        f"Give a number of {_format_count(it['max_digits'], 'digit', 'digits')} at most."
    ),
    "decimal_max_places": lambda it: (
        f"Give a number with {_format_count(it['decimal_places'], 'decimal', 'decimals')} at most."
    ),
    "decimal_whole_digits": lambda it: (
        f"Give a number with {_format_count(it['whole_digits'], 'digit', 'digits')} at most"
        " before the"
        " decimal point."
    ),
    "date_past": _FUTURE,
    "datetime_past": _FUTURE,
    "date_future": _PAST,
    "datetime_future": _PAST,
    "date_from_datetime_inexact": "Give a day without a time of day.",
    "timezone_naive": "Give it without an offset from UTC.",
    "timezone_aware": "Give its offset from UTC too, as in 2025-03-01T08:00:00Z.",
    "timezone_offset": "Its offset from UTC is not the one that is expected.",
    "url_too_long": lambda it: (
        f"Give {_format_count(it['max_length'], 'character', 'characters')} at most."
    ),
    "url_scheme": lambda it: (
        f"Give a URL that begins with {_without_quotes(it['expected_schemes'])}."
    ),
    "uuid_version": lambda it: f"Give a UUID of version {it['expected_version']}.",
    "recursion_loop": "It refers to itself.",
    "recursion_depth_exceeded": "Its lists and objects are nested too deep.",
    "bytes_invalid_encoding": "It is not encoded correctly.",
    **dict.fromkeys(("int_type", "int_parsing"), _WHOLE),
    **dict.fromkeys(
        ("float_type", "float_parsing", "decimal_type", "decimal_parsing", "complex_type"), _NUMBER
    ),
    **dict.fromkeys(("complex_str_parsing", "fraction_type", "fraction_parsing"), _NUMBER),
    **dict.fromkeys(
        ("list_type", "tuple_type", "set_type", "frozen_set_type", "deque_type", "iterable_type"),
        _LIST,
    ),
    **dict.fromkeys(
        (
            *("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
            *("frozen_dict_type", "ordered_dict_type", "counter_type", "dataclass_exact_type"),
            *("named_tuple_type", "arguments_type"),
        ),
        _OBJECT,
    ),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "datetime_from_date_parsing"),
        _DAY,
    ),
    **dict.fromkeys(("time_type", "time_parsing"), _TIME),
    **dict.fromkeys(("datetime_type", "datetime_parsing", "datetime_object_invalid"), _MOMENT),
    **dict.fromkeys(("time_delta_type", "time_delta_parsing"), _DURATION),
    **dict.fromkeys(("url_type", "url_parsing", "url_syntax_violation"), _URL),
    **dict.fromkeys(("uuid_type", "uuid_parsing"), _UUID),
    **dict.fromkeys(("bytes_type", "json_type"), _TEXT),
}


def describe_error(mistake: Any, *, known: Sequence[str] = (), quoting: bool = True) -> str:
    """Write one of the errors of a ValidationError as a sentence for people.

    `known` lists the valid names if one is unknown. With `quoting`, the wrong value is repeated,
    shortened.
    """
    kind = mistake["type"]
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        there_are = f" There are: {', '.join(known)}." if known else ""
        return f"There is no such field.{there_are}"
    found = _SENTENCES.get(kind, _GENERAL)
    try:
        told = found if isinstance(found, str) else found(mistake.get("ctx") or {})
    except KeyError:
        told = _GENERAL
    value = mistake.get("input")
    if value == "" and not told.startswith(_EMPTY):
        return f"{_EMPTY} {told.removesuffix('.')}, or leave it out."
    if quoting and not kind.startswith("missing") and isinstance(value, str | int | float):
        # Of a long text its beginning: the rest would be copied for nothing.
        value = value[: MAX_SHOWN_LENGTH + 1] if isinstance(value, str) else value
        told = f"{told.removesuffix('.')} (given: {shorten(repr(value))})."
    return told


def describe_path(path: str) -> str:
    """Write a dotted path in a request as people say it: `fields.0` is the first of `fields`.

    Return an empty text for the whole request.
    """
    if path == "all":
        return ""
    told = ""
    names: list[str] = []
    for part in path.split("."):
        if part.isdecimal() and len(part) < _MAX_INDEX_DIGITS:
            told = f"the {_format_ordinal(int(part))} of {_join_names(names, told) or 'the list'}"
            names = []
        else:
            names.append(shorten(part))
    return _join_names(names, told)


def _join_names(names: Sequence[str], told: str) -> str:
    if not names:
        return told
    return f"`{'.'.join(names)}`" + (f" of {told}" if told else "")


def to_sentence(text: str) -> str:
    """Return the text with a capital letter and one full stop."""
    stripped = text.strip().rstrip(".")
    if not stripped:
        return _GENERAL
    return stripped[0].upper() + stripped[1:] + ("" if stripped[-1] in "?!" else ".")


def shorten(text: str) -> str:
    """Shorten the text, so that a wrong value of any size can be quoted in a sentence."""
    return text if len(text) <= MAX_SHOWN_LENGTH else text[: MAX_SHOWN_LENGTH - 1] + "…"


def _list_choices(expected: str) -> str:
    """List the valid values from pydantic's text, with enum members as people write them."""
    listed = re.sub(r"<[^:>]*: ('[^']*')>", r"\1", expected)
    return f"Give {'one of ' if ',' in listed or ' or ' in listed else ''}{listed}."


def _without_quotes(listed: str) -> str:
    return listed.replace("'", "")


def _format_number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _format_count(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    *("tenth",),
)


def _format_ordinal(index: int) -> str:
    if index < len(_ORDINALS):
        return _ORDINALS[index]
    number = index + 1
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number:,}{ending or 'th'}"
