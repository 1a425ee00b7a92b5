"""Detecting that the process is ending, so that waiting requests and streams end by themselves."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def watch_for_shutdown(shutting_down: asyncio.Event) -> Iterator[None]:
    """Set `shutting_down` when the server is told to end, before it waits for requests under way.

    ASGI tells an application of its end only after the last answer, which would be too late for an
    answer that goes on until then. The handlers that the server has installed are called as before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def notice(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(shutting_down.set)
        handler = before[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    chained = [number for number, handler in before.items() if callable(handler)]
    for number in chained:
        signal.signal(number, notice)
    try:
        yield
    finally:
        for number in chained:
            signal.signal(number, before[number])
