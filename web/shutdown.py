"""Shutdown: requests that wait or stream end by themselves after SIGTERM or SIGINT."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def watch_for_shutdown(shutting_down: asyncio.Event) -> Iterator[None]:
    """Set `shutting_down` on a signal, before uvicorn waits for requests under way.

    ASGI announces the shutdown only after the last response, too late for one that streams until
    then. The signal handlers of uvicorn are called as before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(shutting_down.set)
        handler = before[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    chained = [number for number, handler in before.items() if callable(handler)]
    for number in chained:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in chained:
            signal.signal(number, before[number])
