"""What every request gets: a correlation id, a log line, and headers of its response."""

import logging
import re
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import events, logs
from web.problems import INTERNAL, Problem, build_problem_response, describe_repetition
from web.request_notes import RequestNotes, begin_notes
from web.streaming import StreamAbortedError

log = logs.get_logger()

SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""No sniffing of types, and no caching: a response may contain addresses."""

_is_plain = re.compile(r"[A-Za-z0-9_.:-]{1,100}").fullmatch
_CORRELATION_HEADERS = (b"x-correlation-id", b"x-request-id")


class RequestMiddleware:
    """The outermost ASGI middleware. It answers an exception that no handler caught with 500.

    The log line has the route and never the path, which may contain an address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the correlation id, add the headers, and log one line when the request ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        notes = begin_notes(_read_correlation_id(scope))
        status = 0

        async def send_wrapped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Correlation-Id"] = notes.correlation_id
            await send(message)

        try:
            with logs.bind_context(correlation_id=notes.correlation_id):
                await self._app(scope, receive, send_wrapped)
        except StreamAbortedError:
            # uvicorn cuts the incomplete response off, which tells the client.
            notes.is_aborted = True
        except Exception as error:  # noqa: BLE001 - logged and answered here
            _log_failure(scope, notes, error)
            # uvicorn cuts off a response that has begun.
            if not status:
                problem = _internal_problem(scope, notes.correlation_id)
                await build_problem_response(problem)(scope, receive, send_wrapped)
        finally:
            notes.release()
            log.info(
                events.REQUEST_ANSWERED,
                method=scope["method"],
                route=_get_route(scope),
                http_status=status,
                duration_ms=round(max(0.0, time.perf_counter() - began - notes.waited) * 1000, 1),
                **notes.to_log_keys(),
            )


def _read_correlation_id(scope: Scope) -> str:
    """Return the id that the caller or the router gave, if it is a plain word; else a new one."""
    given: dict[bytes, bytes] = dict(scope["headers"])
    for name in _CORRELATION_HEADERS:
        text = given.get(name, b"").decode("latin-1")
        if _is_plain(text):
            return text
    return uuid.uuid4().hex


def _get_route(scope: Scope) -> str | None:
    return getattr(scope.get("route"), "path_format", None)


def _log_failure(scope: Scope, notes: RequestNotes, error: Exception) -> None:
    log.error(
        events.REQUEST_FAILED,
        method=scope["method"],
        route=_get_route(scope),
        error=type(error).__name__,
        correlation_id=notes.correlation_id,
        exc_info=error,
    )


def _internal_problem(scope: Scope, correlation_id: str) -> Problem:
    return Problem(
        INTERNAL,
        f"Sluice failed, and logged the error. {describe_repetition(scope)} Tell the operator the"
        " correlation_id.",
        correlation_id=correlation_id,
    )


def is_already_logged(record: logging.LogRecord) -> bool:
    """Return whether uvicorn reports a stream that was cut off, which has its own log line."""
    return "without completing response" in record.msg
