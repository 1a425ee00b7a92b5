"""What happens on SIGTERM or SIGINT, from the signal to the end of a web process.

It usually ends after 0.2 seconds, or with its last request, and after 6 seconds at most.

1. `watch_for_shutdown` sets `AppState.shutting_down` and calls uvicorn's handler.
2. `Prefer: wait` returns the present state of its job (`web.prefer_wait`), and event streams end
   (`web.routes.job_events`).
3. uvicorn accepts no more connections and closes idle ones. Requests in progress have
   `SHUTDOWN_SECONDS`, then they are cut off. A client without a response repeats the request with
   its idempotency key.
4. `web.app` stops its background tasks, cuts the pool and logs `web.stopped`. Postgres rolls back
   what was not committed.

A web process that runs alone then ends by SIGTERM itself, and after SIGINT with status 0. With
`WEB_PROCESSES` above 1 uvicorn's master passes SIGTERM on to each process, waits for them and exits
with status 0.

SIGHUP is not handled here. It ends a web process immediately, and its requests are cut off. With
`WEB_PROCESSES` above 1 uvicorn's master takes SIGHUP as an order to replace its processes one by
one; those that it replaces end as on SIGTERM.
"""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SHUTDOWN_SECONDS = 5
"""How long requests in progress may take after the signal."""

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
    handlers = {each: handler for each in _SIGNALS if callable(handler := signal.getsignal(each))}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(shutting_down.set)
        handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
