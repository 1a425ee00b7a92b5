"""What is wrong with a value, in sentences of our own: pydantic finds it, and does not speak.

Each sentence says what to give. A kind of error without a sentence here gets a general one, so that
new errors of pydantic's are told in plain words too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

MAX_SHOWN_LENGTH = 40
"""The most characters of a wrong value that an error repeats."""

_MAX_INDEX_DIGITS = 10

Context = Mapping[str, Any]

_GENERAL = "This value is not accepted."
_EMPTY = "It is empty."


class _SentenceFormatter(Formatter):
    """Write `{max_length:entry/entries}` as a count of entries, and numbers with commas."""

    def format_field(self, value: Any, spec: str) -> str:
        number = f"{value:,}" if isinstance(value, int) else str(value)
        one, _, several = spec.partition("/")
        return f"{number} {one if value == 1 else several}" if spec else number


_FORMATTER = _SentenceFormatter()


def _list_choices(expected: str) -> str:
    """List the valid values from pydantic's text; enum members appear as their values."""
    listed = re.sub(r"<[^:>]*: ('[^']*')>", r"\1", expected)
    return f"Give {'one of ' if ',' in listed or ' or ' in listed else ''}{listed}."


def _ask_for_text(context: Context) -> str:
    if context["min_length"] == 1:
        return "Give some text."
    return _FORMATTER.vformat("Give {min_length:character/characters} or more.", (), context)


def _ask_for_scheme(context: Context) -> str:
    return f"Give a URL that begins with {context['expected_schemes']}.".replace("'", "")


_SENTENCES_OF_KINDS: Mapping[str | Callable[[Context], str], str] = {
    "It is required, and missing.": "missing",
    "Leave it out, or give null.": "none_required",
    "Give more than {gt}.": "greater_than",
    "Give {ge} or more.": "greater_than_equal",
    "Give less than {lt}.": "less_than",
    "Give {le} or less.": "less_than_equal",
    "Give a multiple of {multiple_of}.": "multiple_of",
    "Give a number that is not infinite.": "finite_number",
    "Give {min_length:entry/entries} or more.": "too_short",
    "Give {max_length:entry/entries} at most.": "too_long",
    _ask_for_text: "string_too_short",
    "Give {max_length:character/characters} at most.": "string_too_long url_too_long",
    "Give text of the form {pattern}.": "string_pattern_mismatch",
    "It has a character that is not valid Unicode.": "string_unicode",
    lambda context: _list_choices(context["expected"]): "enum literal_error",
    lambda context: _list_choices(context["expected_tags"]): "union_tag_invalid",
    lambda context: to_sentence(str(context["error"])): "value_error assertion_error",
    "It is not JSON.": "json_invalid",
    "Give true or false.": "bool_type bool_parsing",
    "Give a whole number.": "int_type int_parsing",
    "Give a whole number, without a fraction.": "int_from_float",
    "Give a smaller number.": "int_parsing_size",
    "Give a number.": "float_type float_parsing decimal_type decimal_parsing",
    "Give text.": "string_type bytes_type json_type",
    "Give a list.": "list_type tuple_type set_type frozen_set_type",
    "Give an object with names and values.": "dict_type mapping_type model_type"
    " model_attributes_type",
    "Give a day as YYYY-MM-DD.": "date_type date_parsing date_from_datetime_parsing"
    " datetime_from_date_parsing",
    "Give a day without a time of day.": "date_from_datetime_inexact",
    "It must not be in the future.": "date_past datetime_past",
    "It must be in the future.": "date_future datetime_future",
    "Give a time as HH:MM:SS.": "time_type time_parsing",
    "Give a date and time with its offset, as 2025-03-01T08:00:00Z.": "datetime_type"
    " datetime_parsing datetime_object_invalid",
    "Give a duration, as PT1H30M.": "time_delta_type time_delta_parsing",
    "Give its offset from UTC too, as in 2025-03-01T08:00:00Z.": "timezone_aware",
    "Give a full http or https URL.": "url_type url_parsing url_syntax_violation",
    _ask_for_scheme: "url_scheme",
    "Give a UUID.": "uuid_type uuid_parsing",
}
"""The kinds of pydantic's errors that each sentence is for, and what fills it in. Kinds that no
value of JSON, a form or a setting can cause have the general sentence."""

_SENTENCES = {
    kind: sentence for sentence, kinds in _SENTENCES_OF_KINDS.items() for kind in kinds.split()
}


def describe_error(
    mistake: Any, *, known: Sequence[str] = (), is_required: bool = False, quoting: bool = True
) -> str:
    """Write one of the errors of a ValidationError as a sentence for people.

    `known` lists the valid names if one is unknown. What `is_required` cannot be left out. With
    `quoting`, the wrong value is repeated, shortened.
    """
    kind = mistake["type"]
    if kind == "extra_forbidden":
        valid = f" Valid fields: {', '.join(known)}." if known else ""
        return f"Unknown field.{valid}"
    sentence, context = _SENTENCES.get(kind, _GENERAL), mistake.get("ctx") or {}
    try:
        if isinstance(sentence, str):
            told = _FORMATTER.vformat(sentence, (), context)
        else:
            told = sentence(context)
    except KeyError:
        told = _GENERAL
    value = mistake.get("input")
    if value == "" or (kind == "string_too_short" and context.get("min_length") == 1):
        return f"{_EMPTY} {told}" if is_required else f"{_EMPTY} {told[:-1]}, or leave it out."
    if quoting and not kind.startswith("missing") and isinstance(value, str | int | float):
        # Cut a long text first, so that not all of it is copied.
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
