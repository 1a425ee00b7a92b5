"""How large the body of a request may be, and how slowly it may come."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.http.peers import peer_of
from producers.http.problems import RETRY_SECONDS, TOO_LARGE, TOO_SLOW, UNAVAILABLE, Problem
from producers.http.turns import Turns
from runtime.settings import Settings

PART_SECONDS = 30.0
"""How long the next part of a body may take to come."""

LEAST_BYTES_PER_SECOND = 1_000
"""How fast a body has to come, and an answer to be read, on average over SLOW_SECONDS or more."""

LARGE_BYTES = 64 * 1024
MOST_LARGE = 16
"""So many bodies of more than `LARGE_BYTES` a process has in memory, until they are answered."""

MOST_LARGE_OF_PEER = 8
"""At most this many of them may come from one network: others need turns as well."""

LARGE_WAIT_SECONDS = 10.0
"""How long one more waits for its turn."""

LARGE_SECONDS = 60.0
"""How long one may take to come, so that slow ones do not keep all others out."""

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
        self._large_turns = Turns(MOST_LARGE, MOST_LARGE_OF_PEER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0
        waited = 0.0
        declared = declared_bytes(scope)
        ended = declared == 0
        turn = _LargeTurn(self._large_turns)

        async def receiving() -> Message:
            nonlocal size, waited, ended
            # Only now is it known which route it is for.
            most = self._most_upload if takes_files(scope) else self._most_body
            if size == 0 and declared is not None and declared > most:
                raise _too_large(most)
            if ended:
                return await receive()
            began = time.monotonic()
            message = await _in_time(receive)
            waited += time.monotonic() - began
            size += len(message.get("body", b""))
            if size > most:
                raise _too_large(most)
            ended = not message.get("more_body", False)
            if not ended:
                self._require_fast(size, waited)
            if size > LARGE_BYTES and not takes_files(scope):
                await turn.take(peer_of(scope, self._proxies), waited, ended=ended)
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
            await turn.end()

    def _require_fast(self, size: int, waited: float) -> None:
        if waited > self._slow_seconds and size < LEAST_BYTES_PER_SECOND * waited:
            raise _too_slow(f"came at less than {LEAST_BYTES_PER_SECOND:,} bytes a second")


class _LargeTurn:
    """The place among `MOST_LARGE` of a body that has become large."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._taken = AsyncExitStack()
        self._waited_before: float | None = None

    async def take(self, peer: str, waited: float, *, ended: bool) -> None:
        """Wait for a place, once; raise Problem where there is none, and for a body that does not
        come. `waited` is how long its parts have taken so far.
        """
        if self._waited_before is None:
            try:
                async with asyncio.timeout(LARGE_WAIT_SECONDS):
                    await self._taken.enter_async_context(self._turns.one_of(peer))
            except TimeoutError:
                raise _too_many_large() from None
            self._waited_before = waited
        if not ended and waited - self._waited_before > LARGE_SECONDS:
            raise _too_slow(f"did not come within {LARGE_SECONDS:.0f} seconds")

    async def end(self) -> None:
        """Give the place back."""
        await self._taken.aclose()


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


async def _in_time(receive: Receive) -> Message:
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await receive()
    except TimeoutError:
        raise _too_slow(f"stopped coming for {PART_SECONDS:.0f} seconds") from None


def _too_slow(why: str) -> Problem:
    return Problem(
        TOO_SLOW,
        f"The body {why}; nothing was stored. Send it again.",
        # What is left of it would be taken for the next request.
        headers={"Connection": "close"},
    )


def _too_many_large() -> Problem:
    return Problem(
        UNAVAILABLE,
        "Too many large requests are under way. Nothing was stored. Send it again after the seconds"
        " in Retry-After, or send less at a time.",
        headers={"Retry-After": str(RETRY_SECONDS), "Connection": "close"},
    )


def _too_large(most: int) -> Problem:
    return Problem(
        TOO_LARGE,
        f"The body is larger than the {most:,} bytes that are read; nothing was stored. Send less"
        " at a time, or let the service be set up for more (MAX_BODY_BYTES, and for files"
        " MAX_UPLOAD_BYTES).",
    )
