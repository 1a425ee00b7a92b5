"""Refusing a malformed request in words that say what to mend, before anything is stored."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from schemas.errors import Mistake, WrongInput
from schemas.requests import UPLOADED, JobRequest

MOST_COMPLAINTS = 20
MOST_LOOKED_AT = 1_000
"""More mistakes than this are only counted."""

MOST_SHOWN = 40
"""Characters of a wrong value that are repeated to the person who gave it."""


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
            f"{what} was refused and nothing was stored: it has {error.error_count():,} mistakes."
            " Look at how it is made, and send a small one first, of which each mistake is told."
        )
    told = list(islice(_mistakes(error, model, within), MOST_COMPLAINTS))
    left = error.error_count() - len(told)
    return refused(what, told, f"and {left} more mistakes" if left else "")


def _mistakes(
    error: ValidationError, model: type[BaseModel], within: tuple[str, ...]
) -> Iterator[Mistake]:
    for mistake in error.errors(include_url=False):
        where = ".".join(str(part) for part in (*within, *mistake["loc"]))
        yield Mistake(where or "all", sentence(mistake, model))


def refused(what: str, mistakes: Sequence[Mistake], more: str = "") -> WrongInput:
    """`what` was refused for these mistakes, each on a line of its own, and `more` of them."""
    lines = [f"{mistake.where}: {mistake.message}" for mistake in mistakes] + [more] * bool(more)
    told = "".join(f"\n  {line}" for line in lines)
    return WrongInput(f"{what} was refused and nothing was stored:{told}", mistakes)


def sentence(mistake: Any, model: type[BaseModel] | None = None, *, quoting: bool = True) -> str:
    """What is wrong, for people; with `quoting` a wrong value is repeated to them, shortened."""
    if mistake["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if model and len(mistake["loc"]) == 1 else ""
        return f"there is no such field; there are: {known}" if known else "there is no such field"
    told: str = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "literal_error":
        # Names of enums as people write them, not as Python does.
        told = re.sub(r"<[^:]*: ('[^']*')>", r"\1", told)
    value = mistake["input"]
    if quoting and mistake["type"] != "missing" and isinstance(value, str | int | float):
        told += f" (given: {shortened(repr(value))})"
    return told


def shortened(text: str) -> str:
    """`text`, cut so that a wrong value of any size can be quoted in a sentence."""
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


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
    if isinstance(value, str):
        if not storable(value):
            raise WrongInput(
                f"{what} was refused and nothing was stored: it contains a NUL character or bytes"
                " that are not UTF-8. Remove them and try again."
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            refuse_unstorable(what, key)
            refuse_unstorable(f"{what}, {key}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            refuse_unstorable(what, item)


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
