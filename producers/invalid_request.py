"""Errors for invalid requests, which say what to correct; nothing is stored then."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from schemas.errors import FieldError, InvalidRequest
from schemas.field_errors import describe_error, describe_path
from schemas.field_errors import shorten as shorten  # noqa: PLC0414 - for other errors
from schemas.json_input import InputTooLarge
from schemas.requests import UPLOADED, JobRequest

MAX_FIELD_ERRORS = 20
MAX_ERRORS_READ = 1_000
"""With more errors than this, only their number is reported."""


def parse_request(given: Mapping[str, Any], *, uploaded: str | None = None) -> JobRequest:
    """Validate the request; raises InvalidRequest with a line for each error.

    `uploaded` is the selection's list (`contacts` or `addresses`) that comes in a file and is empty
    here.
    """
    try:
        return JobRequest.model_validate(given, context={UPLOADED: uploaded})
    except ValidationError as error:
        raise convert_validation_error("The request", error, JobRequest) from None


def convert_validation_error(
    what: str, error: ValidationError, model: type[BaseModel], *, within: tuple[str, ...] = ()
) -> InvalidRequest:
    """Return the error for `what`, which failed validation by the `model`.

    `within` is its place in the request.
    """
    if error.error_count() > MAX_ERRORS_READ:
        # Pydantic cannot build only the first ones.
        return InvalidRequest(
            f"{what} was rejected and nothing was stored. It has {error.error_count():,} errors."
            " Send a small request first, whose errors are listed."
        )
    listed: list[FieldError] = []
    for each in error.errors(include_url=False)[:MAX_FIELD_ERRORS]:
        where = ".".join(str(part) for part in (*within, *each["loc"]))
        known = tuple(model.model_fields) if len(each["loc"]) == 1 else ()
        told = describe_error(each, known=known, is_required=_is_required(model, each["loc"]))
        listed.append(FieldError(where or "all", told))
    left = error.error_count() - len(listed)
    return invalid_request(what, listed, f"There are {left:,} more errors." if left else "")


def _is_required(model: Any, place: Sequence[str | int]) -> bool:
    """Return whether the model, or one within it, requires the field at the place."""
    field = None
    for name in place:
        fields = getattr(model, "model_fields", {})
        if (field := fields.get(name)) is None:
            return False
        model = field.annotation
    return field is not None and field.is_required()


def input_too_large(what: str, why: InputTooLarge) -> InvalidRequest:
    """Return the error for `what`, which has too many values or names."""
    return InvalidRequest(
        f"{what} was rejected and nothing was stored. It has {why}. Send less at a time, or send a"
        " long list as a file."
    )


def invalid_request(
    what: str, field_errors: Sequence[FieldError], more: str = ""
) -> InvalidRequest:
    """Return the error for `what`, with a line for each of its errors, and for `more`."""
    lines = [format_field_error(error) for error in field_errors] + [more] * bool(more)
    told = "".join(f"\n  {line}" for line in lines)
    return InvalidRequest(f"{what} was rejected and nothing was stored:{told}", field_errors)


def format_field_error(error: FieldError) -> str:
    """Return the error for people; `error.location` is for programs."""
    place = describe_path(error.location)
    return f"{place}: {error.message}" if place else error.message


def require_storable_texts(what: str, model: BaseModel, *, exclude: Any = None) -> None:
    """Raise InvalidRequest for a text of the model that Postgres cannot store.

    Usually there is none; the model's JSON shows that in a tenth of the time.
    """
    with suppress(PydanticSerializationError):
        if "\\u0000" not in model.model_dump_json(exclude=exclude):
            return
    require_storable(what, model.model_dump(exclude=exclude))


def require_storable(what: str, value: Any) -> None:
    """Raise InvalidRequest for a text, at any depth of `value`, that Postgres cannot store."""
    if (names := _find_unstorable(value)) is not None:
        why = "It contains a NUL character or bytes that are not UTF-8. Remove them and try again."
        if names:
            raise invalid_request(what, [FieldError(".".join(map(shorten, names)), why)])
        raise InvalidRequest(f"{what} was rejected and nothing was stored. {why}")


def _find_unstorable(value: Any) -> list[str] | None:
    """Return the path to the first text that cannot be stored; None if there is none.

    The path is built only for a text that is found, because a long name may have many values below
    it.
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
    """Return whether Postgres can store the text: no NUL and no unpaired surrogate."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
