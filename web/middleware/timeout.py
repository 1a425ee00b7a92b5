"""How long a caller waits for a response to begin.

A Postgres that was stopped, or hangs, answers nothing and refuses nothing. The driver would wait
for as long as that lasts, even when it was told to give up.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.error_handlers import unavailable_problem
from web.middleware.body_limit import accepts_files
from web.problems import build_problem_response

T = TypeVar("T")

RESPONSE_TIMEOUT_SECONDS = 28.0
"""How long an answer may take to begin, from when the request has come. What takes longest when all
is well, to pause a job that is at work, gives up after 10 by itself."""

_abandoned: set[asyncio.Future[Any]] = set()
"""What was told to end and has not yet; asyncio itself would forget it."""


class TimeoutMiddleware:
    """ASGI middleware. Answers 503 in time, whatever the routes wait for.

    Files are not under it: reading ten million rows takes minutes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a problem when the time is up, and give up the work."""
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
                f"No answer could be given within {RESPONSE_TIMEOUT_SECONDS:.0f} seconds."
            )
            await build_problem_response(problem)(scope, receive, send)
        except asyncio.CancelledError:
            _abandon(task)
            raise
        finally:
            channel.is_over = True


class _TimedChannel:
    """What a route receives and sends by.

    Its time counts only while nothing is received, and until something is sent. What it sends when
    it is `is_over` is dropped.
    """

    def __init__(self, receive: Receive, send: Send, scope: Scope) -> None:
        self._receive = receive
        self._send = send
        self._scope = scope
        self._started = False
        self.is_over = False
        self.limit = asyncio.timeout(RESPONSE_TIMEOUT_SECONDS)

    async def receive(self) -> Message:
        # How long a body may take is the business of `BodyLimitMiddleware`.
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
    """Return the work's result; raises TimeoutError after `seconds`.

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
        # Nobody asks any more what became of it.
        task.exception()
