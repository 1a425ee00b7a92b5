"""A limit on how long a client waits for a response to begin.

A Postgres that was stopped or hangs neither answers nor refuses connections. The driver would wait
until it answers again, even if its task is cancelled.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.middleware.body_limit import accepts_files
from web.problems import build_problem_response, unavailable_problem

T = TypeVar("T")

RESPONSE_TIMEOUT_SECONDS = 28.0
"""How long a response may take to begin after the request has come. The slowest normal request,
pausing a running job, gives up after 10 seconds itself."""

_abandoned: set[asyncio.Future[Any]] = set()
"""Cancelled tasks that have not ended; asyncio itself keeps no reference."""


class TimeoutMiddleware:
    """ASGI middleware. Answers 503 in time, whatever the route waits for.

    Uploads are exempt: reading ten million rows takes minutes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cancel the route and answer 503 if its time is up."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        channel = _TimedChannel(receive, send, scope)
        task = asyncio.ensure_future(self._app(scope, channel.receive, channel.send))
        try:
            async with channel.limit:
                await asyncio.shield(task)
        except TimeoutError:
            if not channel.limit.expired():
                raise
            _abandon(task)
            problem = unavailable_problem(
                f"The request took longer than {RESPONSE_TIMEOUT_SECONDS:.0f} seconds.", scope
            )
            await build_problem_response(problem)(scope, receive, send)
        except asyncio.CancelledError:
            _abandon(task)
            raise
        finally:
            channel.is_over = True


class _TimedChannel:
    """The `receive` and `send` of a route, whose time counts only between them.

    Once it `is_over`, what the route sends is dropped.
    """

    def __init__(self, receive: Receive, send: Send, scope: Scope) -> None:
        self._receive = receive
        self._send = send
        self._scope = scope
        self._started = False
        self.is_over = False
        self.limit = asyncio.timeout(RESPONSE_TIMEOUT_SECONDS)

    async def receive(self) -> Message:
        # `BodyLimitMiddleware` limits how long a body may take.
        self._count(from_now=False)
        try:
            return await self._receive()
        finally:
            self._count(from_now=not self._started and not accepts_files(self._scope))

    async def send(self, message: Message) -> None:
        if not self.is_over:
            self._started = True
            self._count(from_now=False)
            await self._send(message)

    def _count(self, *, from_now: bool) -> None:
        if not self.is_over:
            now = asyncio.get_running_loop().time()
            self.limit.reschedule(now + RESPONSE_TIMEOUT_SECONDS if from_now else None)


async def run_with_timeout(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work; raise TimeoutError if it takes longer.

    The work is cancelled then, and not awaited.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        _abandon(task)
        raise TimeoutError
    return task.result()


def _abandon(task: asyncio.Future[Any]) -> None:
    task.cancel()
    _abandoned.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Future[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        # Without this, asyncio logs that the error was never retrieved.
        task.exception()
