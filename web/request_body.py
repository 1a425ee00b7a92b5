"""JSON bodies, for routes that accept more than one type or limit the depth of JSON."""

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
from web.middleware.body_limit import get_media_type
from web.problems import MALFORMED, UNSUPPORTED_MEDIA_TYPE, Problem
from web.state import get_state

Model = TypeVar("Model", bound=BaseModel)

MAX_JSON_DEPTH = 32
"""How many levels of lists and objects a body may have."""

_FORM_MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")

_SMALL_BODY_BYTES = 16 * 1024
"""A body of this size takes a millisecond or two to parse; an unusual one takes twenty."""

_has_surrogate = re.compile(r"\\u[dD][89a-fA-F]").search


async def read_json_body(request: Request, caller: Caller, model: type[Model]) -> Model:
    """Return the body as a model, and hold a slot from when the body has come.

    Raise Problem, or InvalidRequest with a line for each error. A large body is parsed away from
    the event loop.
    """
    if get_media_type(request.scope) != "application/json":
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            "The body must be JSON. Nothing was done. Send Content-Type: application/json.",
        )
    body = await request.body()
    await get_state(request).acquire_slot(request, caller.account_id)
    return await run_off_loop(
        caller.account,
        lambda: parse_json(body, model, "The request"),
        is_long=is_large(body),
    )


def is_large(body: bytes) -> bool:
    """Return whether work on the body would block the event loop for too long."""
    return len(body) > _SMALL_BODY_BYTES


def parse_json(text: bytes | str, model: type[Model], what: str) -> Model:
    """Return the JSON text as a model; raise Problem, or InvalidRequest for errors in `what`."""
    return validate(load_json(text, what), model, what)


def validate(value: Any, model: type[Model], what: str, *, context: Any = None) -> Model:
    """Return a JSON value as a model; raise InvalidRequest for errors in `what`."""
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise convert_validation_error(what, error, model) from None


def load_json(text: bytes | str, what: str) -> Any:
    """Return the value of the JSON text.

    Raise Problem if `what` cannot be read, and InvalidRequest if it has too many values.
    """
    try:
        # Some editors and libraries begin a text with a byte order mark.
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise not_utf_8_problem(what) from None
    try:
        value = read_json(text)
        _reject_surrogates(text, value)
    except DuplicateName as error:
        # The last value would count, and could turn a plan into a run.
        raise Problem(
            MALFORMED, f"{what} has {error}. Nothing was stored. Give each name once."
        ) from None
    except InputTooLarge as error:
        raise input_too_large(what, error) from None
    except ValueError as error:
        raise Problem(
            MALFORMED, f"{what} is not JSON: {error_text(error)}. Nothing was stored."
        ) from None
    if is_deeper(value, MAX_JSON_DEPTH):
        raise Problem(
            MALFORMED,
            f"{what} has more than {MAX_JSON_DEPTH} levels of lists and objects."
            " Nothing was stored.",
        )
    return value


def _reject_surrogates(text: str, value: Any) -> None:
    if _has_surrogate(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it has an unpaired surrogate") from None


def not_utf_8_problem(what: str) -> Problem:
    """Build the problem for JSON that is not encoded in UTF-8."""
    return Problem(
        MALFORMED,
        f"{what} is not text in UTF-8. Nothing was stored. Send JSON in UTF-8, whatever charset"
        " Content-Type names.",
    )


def body_openapi(schema: type[BaseModel] | dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its body itself, as JSON or `more` types."""
    given = schema if isinstance(schema, dict) else body_schema(schema)
    return _describe_content({"application/json": given, **more})


def form_openapi(properties: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads a form; without `required`, any body."""
    schema = {"properties": properties} | ({"type": "object"} if required else {})
    return _describe_content(dict.fromkeys(_FORM_MEDIA_TYPES, schema), required=required)


def _describe_content(schemas: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    content = {media_type: {"schema": each} for media_type, each in schemas.items()}
    return {"requestBody": {"required": required, "content": content}}


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's JSON schema without references."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    # The hook replaces each object, the innermost first.
    def resolve(part: Any) -> Any:
        return json.loads(json.dumps(part), object_hook=resolve_reference)

    def resolve_reference(part: dict[str, Any]) -> dict[str, Any]:
        name = part.pop("$ref", "").removeprefix("#/$defs/")
        return {**resolve(definitions[name]), **part} if name else part

    resolved: dict[str, Any] = resolve(schema)
    return resolved
