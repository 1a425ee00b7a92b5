"""Refusing a malformed request before anything is stored, in words that say what to correct."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from schemas.errors import FieldError, InvalidRequest
from schemas.field_errors import describe_error, describe_path
from schemas.field_errors import shorten as shorten  # noqa: PLC0414 - for who refuses by hand
from schemas.json_input import InputTooLarge
from schemas.requests import UPLOADED, JobRequest

MAX_FIELD_ERRORS = 20
MAX_ERRORS_READ = 1_000
"""More mistakes than this are only counted."""


def parse_request(given: Mapping[str, Any], *, uploaded: str | None = None) -> JobRequest:
    """Validate a request; raises InvalidRequest with a line for each error.

    `uploaded` names the list of the selection that is empty because a file brings it.
    """
    try:
        return JobRequest.model_validate(given, context={UPLOADED: uploaded})
    except ValidationError as error:
        raise convert_validation_error("The request", error, JobRequest) from None


def convert_validation_error(
    what: str, error: ValidationError, model: type[BaseModel], *, within: tuple[str, ...] = ()
) -> InvalidRequest:
    """Convert a ValidationError about `what` into an error for people.

    `model` lists the valid fields, and `within` is the path of `what` in the request.
    """
    if error.error_count() > MAX_ERRORS_READ:
        # To tell the first of them, all would have to be told.
        return InvalidRequest(
            f"{what} was refused and nothing was stored. It has {error.error_count():,} mistakes."
            " Send a small request first: each mistake in it is told."
        )
    told = list(islice(_field_errors(error, model, within), MAX_FIELD_ERRORS))
    left = error.error_count() - len(told)
    return invalid_request(what, told, f"There are {left:,} more mistakes." if left else "")


def _field_errors(
    error: ValidationError, model: type[BaseModel], within: tuple[str, ...]
) -> Iterator[FieldError]:
    for mistake in error.errors(include_url=False):
        where = ".".join(str(part) for part in (*within, *mistake["loc"]))
        known = tuple(model.model_fields) if len(mistake["loc"]) == 1 else ()
        yield FieldError(where or "all", describe_error(mistake, known=known))


def input_too_large(what: str, why: InputTooLarge) -> InvalidRequest:
    """Make the error for a `what` with more values or names than are read."""
    return InvalidRequest(
        f"{what} was refused and nothing was stored: it has {why}. Send less at a time; a long list"
        " comes as a file."
    )


def invalid_request(
    what: str, field_errors: Sequence[FieldError], more: str = ""
) -> InvalidRequest:
    """Make the error for a `what` with these errors, a line for each, followed by `more`."""
    lines = [format_field_error(mistake) for mistake in field_errors] + [more] * bool(more)
    told = "".join(f"\n  {line}" for line in lines)
    return InvalidRequest(f"{what} was refused and nothing was stored:{told}", field_errors)


def format_field_error(mistake: FieldError) -> str:
    """Describe the error for people; `mistake.location` is for programs."""
    place = describe_path(mistake.location)
    return f"{place}: {mistake.message}" if place else mistake.message


def require_storable_texts(what: str, model: BaseModel, *, exclude: Any = None) -> None:
    """Raise InvalidRequest for a text of the model that Postgres cannot store.

    Mostly there is none, which shows when the whole is written as JSON, in a tenth of the time.
    """
    with suppress(PydanticSerializationError):
        if "\\u0000" not in model.model_dump_json(exclude=exclude):
            return
    require_storable(what, model.model_dump(exclude=exclude))


def require_storable(what: str, value: Any) -> None:
    """Raise InvalidRequest for text, at any depth of `value`, that Postgres cannot keep."""
    if (names := _find_unstorable(value)) is not None:
        where = ", ".join([what, *map(shorten, names)])
        raise InvalidRequest(
            f"{where} was refused and nothing was stored. It contains a NUL character or bytes"
            " that are not UTF-8. Remove them and try again."
        )


def _find_unstorable(value: Any) -> list[str] | None:
    """Return the names that lead to the first text that cannot be kept; None where there is none.

    They are put together only then: a long name with many values below it is not copied for each.
    """
    if isinstance(value, str):
        return None if is_storable(value) else []
    if isinstance(value, dict):
        for key, item in value.items():
            if not is_storable(key):
                return []
            if (names := _find_unstorable(item)) is not None:
                return [key, *names]
    elif isinstance(value, (list, tuple)):
        return next(
            (names for item in value if (names := _find_unstorable(item)) is not None), None
        )
    return None


def is_storable(text: str) -> bool:
    """Return whether Postgres can keep the text: all of it characters, and none of them NUL."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
