"""Bodies that an HTML form, or a mail client, sends."""

from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException

from producers.http.bodies import media_type
from producers.http.problems import MALFORMED, UNSUPPORTED, Problem

MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
MOST_FIELDS = 200


async def read_form(request: Request) -> list[tuple[str, str]]:
    """The fields in their order; one may come more than once. Raises Problem for what is none."""
    if media_type(request) not in MEDIA_TYPES:
        raise Problem(
            UNSUPPORTED,
            f"The body is no form; nothing was stored. Send {' or '.join(MEDIA_TYPES)}.",
        )
    try:
        # Within an application, Starlette raises for a malformed form what it answers 400 to.
        async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
            return [(name, str(value)) for name, value in form.multi_items()]
    except HTTPException:
        raise Problem(
            MALFORMED,
            f"The body is no form of at most {MOST_FIELDS} fields without files; nothing was"
            " stored.",
        ) from None


def form_body(properties: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a form's body."""
    schema = {"schema": {"type": "object", "properties": properties}}
    return {"required": True, "content": dict.fromkeys(MEDIA_TYPES, schema)}
