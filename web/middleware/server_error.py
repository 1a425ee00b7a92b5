"""Unexpected errors: told once in the log, and to the caller without their text."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import events, logs
from web.problems import INTERNAL, Problem, build_problem_response
from web.streaming import StreamAbortedError

log = logs.get_logger()


class ServerErrorMiddleware:
    """ASGI middleware. Whatever the routes raise ends here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an unexpected error with a problem, and log it.

        A response that has begun is cut off, so that the caller sees that it is incomplete.
        """
        started = False

        async def send_wrapped(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_wrapped)
        except StreamAbortedError:
            # The caller is told by an answer without its end, which the server cuts off.
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
            # An answer that has begun stays without its end, and so the server cuts it off.
            if not started:
                await build_problem_response(_internal_problem(correlation_id))(
                    scope, receive, send
                )


def _internal_problem(correlation_id: str) -> Problem:
    return Problem(
        INTERNAL,
        "This is a fault in Sluice, and was logged. What was asked is done wholly or not at all;"
        " with the same Idempotency-Key it is safe to ask again. Tell those who run it the"
        " correlation_id.",
        correlation_id=correlation_id,
    )


def is_already_logged(record: logging.LogRecord) -> bool:
    """Return whether the server tells of a stream that was left without its end, which has its
    line.
    """
    return "without completing response" in record.msg
