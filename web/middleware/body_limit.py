"""How large the body of a request may be, and how slowly it may come."""

import asyncio
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.settings import Settings
from web.large_bodies import (
    LARGE_BYTES,
    MAX_LARGE_BODIES,
    LargeBodies,
    LargeBody,
    evicted,
)
from web.peers import peer_of
from web.problems import TOO_LARGE, TOO_SLOW, Problem

PART_SECONDS = 30.0
"""How long the next part of a body may take to come."""

LEAST_BYTES_PER_SECOND = 1_000
"""How fast a body has to come, and an answer to be read, on average over SLOW_SECONDS or more."""

FORM_LIMITS: Any = {"max_fields": 50, "max_files": 10, "max_part_size": 100_000}
"""Of a form: how many fields and files it may have, and how many bytes a field."""


class Limits:
    """ASGI middleware. What reads a body that is too large or too slow has a Problem raised.

    Where an answer is given before the end of a body that may be large, the connection is closed
    with it, so that the rest is not read.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._most_body = settings.max_body_bytes
        self._most_upload = settings.max_upload_bytes
        self._slow_seconds = settings.slow_seconds
        self._proxies = settings.proxies
        self._large_bodies = LargeBodies(MAX_LARGE_BODIES * self._most_body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0
        waited = 0.0
        declared = declared_bytes(scope)
        ended = declared == 0
        room = self._most_body if declared is None else min(declared, self._most_body)
        large = LargeBody(self._large_bodies, peer_of(scope, self._proxies), room)

        async def receiving() -> Message:
            nonlocal size, waited, ended
            # Only now is it known which route it is for.
            most = self._most_upload if takes_files(scope) else self._most_body
            if size == 0 and declared is not None and declared > most:
                raise _too_large(most)
            if ended:
                return await receive()
            began = time.monotonic()
            message = await _in_time(receive, large)
            waited += time.monotonic() - began
            size += len(message.get("body", b""))
            if size > most:
                raise _too_large(most)
            ended = not message.get("more_body", False)
            if not ended:
                self._require_fast(size, waited)
            if size > LARGE_BYTES and not takes_files(scope):
                await large.grow(size)
            return message

        async def sending(message: Message) -> None:
            may_be_large = declared is None or declared > self._most_body
            if message["type"] == "http.response.start" and not ended and may_be_large:
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers["connection"] = "close"
                message["headers"] = headers.raw
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        finally:
            large.leave()

    def _require_fast(self, size: int, waited: float) -> None:
        if waited > self._slow_seconds and size < LEAST_BYTES_PER_SECOND * waited:
            raise _too_slow(f"came at less than {LEAST_BYTES_PER_SECOND:,} bytes a second")


def takes_files(scope: Scope) -> bool:
    """Whether the body is of a type that the route documents as a file, or as a form with files."""
    extra = getattr(scope.get("route"), "openapi_extra", None) or {}
    sent = dict(scope["headers"]).get(b"content-type", b"").partition(b";")[0].strip().lower()
    documented = extra.get("requestBody", {}).get("content", {}).get(sent.decode("latin-1"), {})
    schema = documented.get("schema", {})
    return any(
        each.get("format") == "binary" for each in (schema, *schema.get("properties", {}).values())
    )


def declared_bytes(scope: Scope) -> int | None:
    """The size of the body in bytes, as the request has it; None where that shows only at its end.

    The server has refused what is no number.
    """
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    return int(headers.get(b"content-length", b"0"))


async def _in_time(receive: Receive, large: LargeBody) -> Message:
    try:
        async with asyncio.timeout(PART_SECONDS) as large.waits_until:
            message = await receive()
    except TimeoutError:
        if large.has_ended:
            raise evicted() from None
        raise _too_slow(f"stopped coming for {PART_SECONDS:.0f} seconds") from None
    finally:
        large.waits_until = None
    if large.has_ended:
        # It came in the moment in which that was told.
        raise evicted()
    return message


def _too_slow(why: str) -> Problem:
    return Problem(
        TOO_SLOW,
        f"The body {why}; nothing was stored. Send it again.",
        # What is left of it would be taken for the next request.
        headers={"Connection": "close"},
    )


def _too_large(most: int) -> Problem:
    return Problem(
        TOO_LARGE,
        f"The body is larger than the {most:,} bytes that are read; nothing was stored. Send less"
        " at a time, or let the service be set up for more (MAX_BODY_BYTES, and for files"
        " MAX_UPLOAD_BYTES).",
    )
