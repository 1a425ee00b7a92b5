"""Run long computations off the event loop, fairly among accounts."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")


class FairExecutor:
    """One thread that does one piece of work at a time, for each account in turn.

    Several threads would take as long together, need the memory of all of them, and delay the event
    loop more. An account with much work delays another by one piece at most.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="long-work")
        self._changing = Lock()
        # In the order of their turns.
        self._waiting: dict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = {}

    async def run_in_turn(self, account: str, work: Callable[[], T]) -> T:
        """Return the result of the work, or raise its error."""
        future: Future[T] = Future()
        with self._changing:
            self._waiting.setdefault(account, deque()).append((future, work))
        self._thread.submit(self._do_next)
        return await asyncio.wrap_future(future)

    def _do_next(self) -> None:
        with self._changing:
            account = next(iter(self._waiting))
            pieces = self._waiting.pop(account)
            future, work = pieces.popleft()
            if pieces:
                self._waiting[account] = pieces
        # A cancelled request no longer waits for its work.
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the work was submitted
            future.set_exception(error)


_long_work = FairExecutor()
run_in_turn = _long_work.run_in_turn


async def run_off_loop(account: str, work: Callable[[], T], *, is_long: bool) -> T:
    """Return the result of the work, done in its account's turn if it `is_long`, or else here."""
    return await run_in_turn(account, work) if is_long else work()
