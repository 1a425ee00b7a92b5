"""What keeps a processor busy for long, away from the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Work(NamedTuple):
    future: "Future[Any]"
    do: Callable[[], Any]


class FairExecutor:
    """One thread that does long work, one piece at a time, for each account in turn.

    Several threads would take as long together, hold the memory of all pieces, and slow the event
    loop down. An account with much work delays another by one piece at most.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="long-work")
        self._changing = Lock()
        # The account whose turn is next is the first.
        self._waiting: dict[str, deque[_Work]] = {}

    async def run_in_turn(self, account: str, work: Callable[[], T]) -> T:
        """Return what the work gives, and raise what it raises."""
        future: Future[T] = Future()
        with self._changing:
            self._waiting.setdefault(account, deque()).append(_Work(future, work))
        self._thread.submit(self._do_next)
        return await asyncio.wrap_future(future)

    def _do_next(self) -> None:
        future, work = self._take_next()
        # Nobody waits any more for the work of a request that was given up.
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the work was handed in
            future.set_exception(error)

    def _take_next(self) -> _Work:
        with self._changing:
            account = next(iter(self._waiting))
            pieces = self._waiting.pop(account)
            work = pieces.popleft()
            if pieces:
                self._waiting[account] = pieces
            return work


_long_work = FairExecutor()
run_in_turn = _long_work.run_in_turn


async def run_off_loop(account: str, work: Callable[[], T], *, is_long: bool) -> T:
    """Return what the work gives, done in its account's turn `where` it takes long, else here."""
    return await run_in_turn(account, work) if is_long else work()
