"""Limits of the size and the pace of request bodies."""

import asyncio
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.settings import Settings
from web.large_bodies import LARGE_BODY_BYTES, MAX_LARGE_BODIES, LargeBody, LargeBodyPool
from web.peers import get_peer
from web.problems import BODY_TOO_LARGE, CLOSE_AND_RETRY, REQUEST_TIMEOUT, Problem

BODY_TIMEOUT_SECONDS = 30.0
"""How long the next part of a body may take."""

MIN_BYTES_PER_SECOND = 1_000
"""A client that sends a body, or reads a response, more slowly than this for SLOW_CLIENT_SECONDS is
cut off."""

FORM_MEDIA_TYPE = "multipart/form-data"


class BodyLimitMiddleware:
    """ASGI middleware. Reading a body that is too large or too slow raises Problem.

    A response that is sent before the end of a large body closes the connection, so that the rest
    is not read.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._max_body_bytes = settings.max_body_bytes
        self._max_upload_bytes = settings.max_upload_bytes
        self._slow_seconds = settings.slow_client_seconds
        self._proxies = settings.proxy_count
        self._large_bodies = LargeBodyPool(MAX_LARGE_BODIES * self._max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap `receive` and `send` to limit the body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0
        waited = 0.0
        declared = get_content_length(scope)
        ended = declared == 0
        large = LargeBody(min(declared or self._max_body_bytes, self._max_body_bytes))

        async def receive_limited() -> Message:
            nonlocal size, waited, ended
            # The route is known only now.
            limit = self._max_upload_bytes if accepts_files(scope) else self._max_body_bytes
            if size == 0 and declared is not None and declared > limit:
                raise _too_large_problem(limit)
            if ended:
                return await receive()
            began = time.monotonic()
            message = await _receive_in_time(receive, large)
            waited += time.monotonic() - began
            size += len(message.get("body", b""))
            if size > limit:
                raise _too_large_problem(limit)
            ended = not message.get("more_body", False)
            if not ended and waited > self._slow_seconds and size < MIN_BYTES_PER_SECOND * waited:
                why = f"came at less than {MIN_BYTES_PER_SECOND:,} bytes a second"
                raise _too_slow_problem(why)
            if size > LARGE_BODY_BYTES and not accepts_files(scope):
                large.peer = large.peer or get_peer(scope, self._proxies)
                await self._large_bodies.grow(large, size)
            return message

        async def send_wrapped(message: Message) -> None:
            may_be_large = declared is None or declared > self._max_body_bytes
            if message["type"] == "http.response.start" and not ended and may_be_large:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive_limited, send_wrapped)
        finally:
            self._large_bodies.release(large)


def accepts_files(scope: Scope) -> bool:
    """Return whether the body is a form, and the route documents one with files."""
    extra = getattr(scope.get("route"), "openapi_extra", None) or {}
    form = extra.get("requestBody", {}).get("content", {}).get(FORM_MEDIA_TYPE, {})
    parts = form.get("schema", {}).get("properties", {}).values()
    if not any(part.get("format") == "binary" for part in parts):
        return False
    return get_media_type(scope) == FORM_MEDIA_TYPE


def get_media_type(scope: Scope) -> str:
    """Return the media type of the body without parameters; empty if the request names none."""
    return Headers(raw=scope["headers"]).get("content-type", "").partition(";")[0].strip().lower()


def get_content_length(scope: Scope) -> int | None:
    """Return the declared size of the body in bytes; None for a chunked body.

    uvicorn has rejected a value that is not a number.
    """
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return None
    return int(headers.get(b"content-length", b"0"))


async def _receive_in_time(receive: Receive, large: LargeBody) -> Message:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS) as large.timeout:
            message = await receive()
    except TimeoutError:
        if not large.is_evicted:
            why = f"stopped coming for {BODY_TIMEOUT_SECONDS:.0f} seconds"
            raise _too_slow_problem(why) from None
    finally:
        large.timeout = None
    if large.is_evicted:
        # Perhaps the part and the eviction came in the same iteration of the event loop.
        raise Problem(
            REQUEST_TIMEOUT,
            "The body came slowly while others needed its memory. Nothing was stored. Send it"
            " again, faster or in smaller parts.",
            headers=CLOSE_AND_RETRY,
        )
    return message


def _too_slow_problem(why: str) -> Problem:
    return Problem(
        REQUEST_TIMEOUT,
        f"The body {why}. Nothing was stored. Send it again.",
        # The rest would be read as the next request.
        headers={"Connection": "close"},
    )


def _too_large_problem(limit: int) -> Problem:
    return Problem(
        BODY_TOO_LARGE,
        f"The body is larger than {limit:,} bytes. Nothing was stored. Send less at a time, or ask"
        " the operator to raise MAX_BODY_BYTES, or for files MAX_UPLOAD_BYTES.",
    )
