"""How long a caller waits for an answer to begin.

A Postgres that was stopped, or hangs, answers nothing and refuses nothing; the driver would wait
for as long as that lasts, also when it was told to give up.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.error_handlers import unavailable
from web.middleware.body_limit import takes_files
from web.problems import problem_response

T = TypeVar("T")

ANSWER_SECONDS = 28.0
"""How long an answer may take to begin, from when the request has come. What takes longest when all
is well, to pause a job that is at work, gives up after 10 by itself."""

_given_up: set[asyncio.Future[Any]] = set()
"""What was told to end and has not yet; asyncio itself would forget it."""


class TimeLimit:
    """ASGI middleware. Answers 503 in time, whatever the routes wait for.

    Files are not under it: reading ten million rows takes minutes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watched = _Watched(receive, send, scope)
        task = asyncio.ensure_future(self._app(scope, watched.receive, watched.send))
        try:
            async with watched.limit:
                await asyncio.shield(task)
        except TimeoutError:
            if not watched.limit.expired():
                raise
            _give_up(task)
            problem = unavailable(f"No answer could be given within {ANSWER_SECONDS:.0f} seconds.")
            await problem_response(problem)(scope, receive, send)
        except asyncio.CancelledError:
            _give_up(task)
            raise
        finally:
            watched.over = True


class _Watched:
    """What a route is given to receive and to send by, so that its time counts only while nothing
    is received, and until something is sent. When it is `over`, what it sends goes nowhere.
    """

    def __init__(self, receive: Receive, send: Send, scope: Scope) -> None:
        self._receive = receive
        self._send = send
        self._scope = scope
        self._started = False
        self.over = False
        self.limit = asyncio.timeout(ANSWER_SECONDS)

    async def receive(self) -> Message:
        # How long a body may take is the business of `Limits`.
        self._count(from_now=False)
        try:
            return await self._receive()
        finally:
            self._count(from_now=not self._started and not takes_files(self._scope))

    async def send(self, message: Message) -> None:
        if not self.over:
            self._started = True
            self._count(from_now=False)
            await self._send(message)

    def _count(self, *, from_now: bool) -> None:
        if not self.over:
            now = asyncio.get_running_loop().time()
            self.limit.reschedule(now + ANSWER_SECONDS if from_now else None)


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, or TimeoutError after so long; the work is told to end, and is not
    waited for.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        _give_up(task)
        raise TimeoutError
    return task.result()


def _give_up(task: asyncio.Future[Any]) -> None:
    task.cancel()
    _given_up.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Future[Any]) -> None:
    _given_up.discard(task)
    if not task.cancelled():
        # Nobody asks any more what became of it.
        task.exception()
