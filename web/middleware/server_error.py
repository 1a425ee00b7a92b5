"""Unexpected errors: logged once, and answered without their text."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import events, logs
from web.problems import INTERNAL, Problem, build_problem_response
from web.streaming import StreamAbortedError

log = logs.get_logger()


class ServerErrorMiddleware:
    """ASGI middleware. Handles every error that no error handler has answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an unexpected error with 500."""
        started = False

        async def send_wrapped(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_wrapped)
        except StreamAbortedError:
            # uvicorn cuts the incomplete response off, which tells the client.
            scope["state"]["aborted"] = True
        except Exception as error:
            if scope["type"] != "http":
                raise
            correlation_id = scope["state"]["correlation_id"]
            log.error(
                events.REQUEST_FAILED,
                method=scope["method"],
                route=getattr(scope.get("route"), "path", None),
                error=type(error).__name__,
                correlation_id=correlation_id,
                exc_info=error,
            )
            # uvicorn cuts off a response that has begun.
            if not started:
                await build_problem_response(_internal_problem(correlation_id))(
                    scope, receive, send
                )


def _internal_problem(correlation_id: str) -> Problem:
    return Problem(
        INTERNAL,
        "Sluice failed, and logged the error. The request was done completely or not at all. With"
        " the same Idempotency-Key it is safe to send it again. Tell the operator the"
        " correlation_id.",
        correlation_id=correlation_id,
    )


def is_already_logged(record: logging.LogRecord) -> bool:
    """Tell whether uvicorn reports a stream that was cut off, which has its own log line."""
    return "without completing response" in record.msg
