"""Refusing a malformed request in words that say what to mend, before anything is stored."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from schemas.errors import Mistake, WrongInput
from schemas.field_errors import place_for_people, sentence
from schemas.field_errors import shortened as shortened  # noqa: PLC0414 - for who refuses by hand
from schemas.json_input import TooMuch
from schemas.requests import UPLOADED, JobRequest

MOST_COMPLAINTS = 20
MOST_LOOKED_AT = 1_000
"""More mistakes than this are only counted."""


def parse_request(given: Mapping[str, Any], *, uploaded: str | None = None) -> JobRequest:
    """The request as a checked value; raises WrongInput with a line for each mistake.

    `uploaded` names the list of its selection that is empty because a file brings it.
    """
    try:
        return JobRequest.model_validate(given, context={UPLOADED: uploaded})
    except ValidationError as error:
        raise wrong_input("The request", error, JobRequest) from None


def wrong_input(
    what: str, error: ValidationError, model: type[BaseModel], *, within: tuple[str, ...] = ()
) -> WrongInput:
    """The mistakes in `what` as an error for people; `model` names what could have been given, and
    `within` is where in the request it stands.
    """
    if error.error_count() > MOST_LOOKED_AT:
        # To tell the first of them, all would have to be told.
        return WrongInput(
            f"{what} was refused and nothing was stored. It has {error.error_count():,} mistakes."
            " Send a small request first: each mistake in it is told."
        )
    told = list(islice(_mistakes(error, model, within), MOST_COMPLAINTS))
    left = error.error_count() - len(told)
    return refused(what, told, f"There are {left:,} more mistakes." if left else "")


def _mistakes(
    error: ValidationError, model: type[BaseModel], within: tuple[str, ...]
) -> Iterator[Mistake]:
    for mistake in error.errors(include_url=False):
        where = ".".join(str(part) for part in (*within, *mistake["loc"]))
        known = tuple(model.model_fields) if len(mistake["loc"]) == 1 else ()
        yield Mistake(where or "all", sentence(mistake, known=known))


def too_much(what: str, why: TooMuch) -> WrongInput:
    """`what` has more values or names than are read."""
    return WrongInput(
        f"{what} was refused and nothing was stored: it has {why}. Send less at a time; a long list"
        " comes as a file."
    )


def refused(what: str, mistakes: Sequence[Mistake], more: str = "") -> WrongInput:
    """`what` was refused for these mistakes, each on a line of its own, and `more` of them."""
    lines = [line_of(mistake) for mistake in mistakes] + [more] * bool(more)
    told = "".join(f"\n  {line}" for line in lines)
    return WrongInput(f"{what} was refused and nothing was stored:{told}", mistakes)


def line_of(mistake: Mistake) -> str:
    """The mistake for people; `mistake.where` is for programs."""
    place = place_for_people(mistake.where)
    return f"{place}: {mistake.message}" if place else mistake.message


def refuse_unstorable_texts(what: str, model: BaseModel, *, exclude: Any = None) -> None:
    """Raise WrongInput for a text of the model that Postgres cannot keep. That there is none, as
    nearly always, shows when the whole is written as JSON, in a tenth of the time.
    """
    with suppress(PydanticSerializationError):
        if "\\u0000" not in model.model_dump_json(exclude=exclude):
            return
    refuse_unstorable(what, model.model_dump(exclude=exclude))


def refuse_unstorable(what: str, value: Any) -> None:
    """Raise WrongInput for text, at any depth of `value`, that Postgres cannot keep."""
    if (names := _to_unstorable(value)) is not None:
        where = ", ".join([what, *map(shortened, names)])
        raise WrongInput(
            f"{where} was refused and nothing was stored. It contains a NUL character or bytes"
            " that are not UTF-8. Remove them and try again."
        )


def _to_unstorable(value: Any) -> list[str] | None:
    """Return the names that lead to the first text that cannot be kept; None where there is none.

    They are put together only then: a long name with many values below it is not copied for each.
    """
    if isinstance(value, str):
        return None if storable(value) else []
    if isinstance(value, dict):
        for key, item in value.items():
            if not storable(key):
                return []
            if (names := _to_unstorable(item)) is not None:
                return [key, *names]
    elif isinstance(value, (list, tuple)):
        return next((names for item in value if (names := _to_unstorable(item)) is not None), None)
    return None


def storable(text: str) -> bool:
    """Whether Postgres can keep the text: all of it characters, and none of them NUL."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
