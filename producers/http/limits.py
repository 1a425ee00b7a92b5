"""How large the body of a request may be, and how long its next part is waited for."""

import asyncio
from typing import Any

from fastapi import params
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.problems import TOO_LARGE, TOO_SLOW, Problem
from runtime.settings import Settings

PART_SECONDS = 30.0
"""How long the next part of a body may take to come."""

_CLOSING = {"Connection": "close"}
"""The connection ends with the answer, since what is left of the body is not read."""

FORM_LIMITS: Any = {"max_fields": 50, "max_files": 10, "max_part_size": 100_000}
"""Of a form: how many fields and files it may have, and how many bytes a field."""


class Limits:
    """ASGI middleware. What reads a body that is too large or too slow has a Problem raised, and
    the rest of the body is left unread.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._most_body = settings.max_body_bytes
        self._most_upload = settings.max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0

        async def receiving() -> Message:
            nonlocal size
            # Only now is it known which route it is for.
            most = self._most_upload if takes_files(scope) else self._most_body
            if size == 0 and _declared(scope) > most:
                raise _too_large(most)
            message = await _in_time(receive)
            size += len(message.get("body", b""))
            if size > most:
                raise _too_large(most)
            return message

        await self._app(scope, receiving, send)


def takes_files(scope: Scope) -> bool:
    """Whether the request is a form for a route that documents one, or a body of a type that only
    files have and that the route documents.
    """
    route: Any = scope.get("route")
    sent = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
    if sent == b"multipart/form-data":
        field = getattr(route, "body_field", None)
        if field is not None and isinstance(field.field_info, params.Form):
            return True
    extra = getattr(route, "openapi_extra", None) or {}
    documented = extra.get("requestBody", {}).get("content", {})
    return sent != b"application/json" and sent.decode("latin-1") in documented


def _declared(scope: Scope) -> int:
    """The size that the request says its body has, in bytes; the server has checked that it is a
    number.
    """
    return int(dict(scope["headers"]).get(b"content-length", b"0"))


async def _in_time(receive: Receive) -> Message:
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await receive()
    except TimeoutError:
        raise Problem(
            TOO_SLOW,
            f"The body stopped coming for {PART_SECONDS:.0f} seconds; nothing was stored. Send it"
            " again.",
            headers=_CLOSING,
        ) from None


def _too_large(most: int) -> Problem:
    return Problem(
        TOO_LARGE,
        f"The body is larger than the {most:,} bytes that are read; nothing was stored. Send less"
        " at a time, or let the service be set up for more (MAX_BODY_BYTES, and for files"
        " MAX_UPLOAD_BYTES).",
        headers=_CLOSING,
    )
