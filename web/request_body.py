"""Reading the body of a request into a model, where a route takes more than one type of it."""

import json
import re
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from producers.fair_executor import run_off_loop
from producers.invalid_request import convert_validation_error, input_too_large
from producers.keys import Caller
from schemas.errors import error_text
from schemas.json_input import DuplicateName, InputTooLarge, is_deeper, read_json
from web.problems import MALFORMED, UNSUPPORTED_MEDIA_TYPE, Problem
from web.state import get_state

Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_DEPTH = 32
"""How many levels of lists and objects a body may have."""

_SMALL_BODY_BYTES = 16 * 1024
"""Of so much most takes a millisecond or two to read, and what is odd twenty."""

_has_surrogate = re.compile(r"\\u[dD][89a-fA-F]").search


def get_media_type(request: Request) -> str:
    """Return the declared media type without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json_body(request: Request, caller: Caller, model: type[Model]) -> Model:
    """Read and validate the body; raises Problem, and InvalidRequest with a line for each error.

    The request acquires a slot when its body has arrived. A large body is parsed outside the event
    loop.
    """
    if get_media_type(request) != "application/json":
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            "The body is read as application/json; nothing was done. Say so in Content-Type.",
        )
    body = await request.body()
    await get_state(request).acquire_slot(request, caller.account_id)
    return await run_off_loop(
        caller.account,
        lambda: parse_json(body, model, "The request"),
        is_long=is_large(body),
    )


def is_large(body: bytes) -> bool:
    """Return whether work on the body keeps others waiting who share the event loop with it."""
    return len(body) > _SMALL_BODY_BYTES


def parse_json(text: bytes | str, model: type[Model], what: str) -> Model:
    """Validate the JSON text; raises Problem, and InvalidRequest for errors in `what`."""
    value = load_json(text, what)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise convert_validation_error(what, error, model) from None


def load_json(text: bytes | str, what: str) -> Any:
    """Parse the JSON text; raises Problem if `what` is malformed, InvalidRequest if it is too
    large.
    """
    try:
        # Some editors and libraries put a byte order mark at the beginning.
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise not_utf_8_problem(what) from None
    try:
        value = read_json(text)
        _reject_surrogates(text, value)
    except DuplicateName as error:
        # The last would count, and turn a plan into a run, or one contact into all.
        told = f"{what} has {error}. Nothing was stored. Give each name once."
        raise Problem(MALFORMED, told) from None
    except InputTooLarge as error:
        raise input_too_large(what, error) from None
    except ValueError as error:
        told = f"{what} is not JSON: {error_text(error)}. Nothing was stored."
        raise Problem(MALFORMED, told) from None
    if is_deeper(value, MAX_JSON_DEPTH):
        told = (
            f"{what} has more than {MAX_JSON_DEPTH} levels of lists and objects."
            " Nothing was stored."
        )
        raise Problem(MALFORMED, told)
    return value


def _reject_surrogates(text: str, value: Any) -> None:
    """Raise ValueError where a string of the value is no text."""
    if _has_surrogate(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it has an unpaired surrogate") from None


def not_utf_8_problem(what: str) -> Problem:
    """Make the problem that `what`, which must be JSON, is not UTF-8."""
    return Problem(
        MALFORMED,
        f"{what} is not text in UTF-8. Nothing was stored. Send it in UTF-8, whatever charset its"
        " Content-Type names: JSON has no other.",
    )


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's JSON schema in one piece, for an operation that reads its body itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, list):
            return [resolve(item) for item in part]
        if not isinstance(part, dict):
            return part
        reference = part.get("$ref", "").removeprefix("#/$defs/")
        rest = {name: resolve(value) for name, value in part.items() if name != "$ref"}
        return {**resolve(definitions[reference]), **rest} if reference else rest

    resolved: dict[str, Any] = resolve(schema)
    return resolved
