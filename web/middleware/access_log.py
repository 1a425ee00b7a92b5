"""The log line of each request, and its correlation id."""

import re
import time
import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import events, logs
from web.request_notes import RequestNotes, begin_notes

log = logs.get_logger()

_is_plain = re.compile(r"[A-Za-z0-9_.:-]{1,100}").fullmatch
_CORRELATION_HEADERS = (b"x-correlation-id", b"x-request-id")


class AccessLogMiddleware:
    """ASGI middleware. Logs the route and never the path, which may contain an address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Log one line for each HTTP request when it ends, and set its correlation id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        correlation_id = _read_correlation_id(scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["correlation_id"] = correlation_id
        notes = begin_notes()
        status = 0

        async def send_wrapped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-correlation-id", correlation_id.encode()),
                ]
            await send(message)

        try:
            with logs.bind_context(correlation_id=correlation_id):
                await self._app(scope, receive, send_wrapped)
        finally:
            notes.release()
            caller = state.get("caller")
            route = scope.get("route")
            log.info(
                events.REQUEST_ANSWERED,
                method=scope["method"],
                route=getattr(route, "path_format", None),
                http_status=status,
                duration_ms=_duration_ms(time.perf_counter() - began, notes),
                key=caller.key_id if caller else None,
                correlation_id=correlation_id,
                **{"account": caller.account_id if caller else None} | notes.to_log_keys(),
                **({"aborted": True} if state.get("aborted") else {}),
            )


def _duration_ms(seconds: float, notes: RequestNotes) -> float:
    return round(max(0.0, seconds - notes.waited) * 1000, 1)


def _read_correlation_id(scope: Scope) -> str:
    """Return the id that the caller or the router gave, if it is a plain word; else a new one."""
    given: dict[bytes, bytes] = dict(scope["headers"])
    for name in _CORRELATION_HEADERS:
        text = given.get(name, b"").decode("latin-1")
        if _is_plain(text):
            return text
    return uuid.uuid4().hex
