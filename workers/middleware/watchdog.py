"""Ending a process whose event loop is blocked."""

import asyncio
import os
import sys
import threading
from typing import Any

from dramatiq.asyncio import get_event_loop_thread
from dramatiq.middleware import Middleware

from runtime import events, logs
from workers.context import WorkerContext

log = logs.get_logger()

EXIT_STATUS = 70
"""EX_SOFTWARE: nothing that anybody asked for."""

LAST_LOG_SECONDS = 5.0
"""How long the line that says so may take."""

_TICK_SECONDS = 0.25


class Watchdog(Middleware):
    """Ends the process when its event loop does not turn for `WATCHDOG_SECONDS`.

    One blocking call stalls everything in the process, while its threads go on telling Redis that
    it lives. Its connections end with it, so its chunks are free again, and the platform restarts
    it. Time is counted in the watchdog's own ticks: a process or machine that was suspended comes
    back with one tick counted, not with hours.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._over = threading.Event()

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Begin to watch."""
        del broker, worker
        thread = get_event_loop_thread()
        assert thread is not None
        threading.Thread(
            target=self._watch, args=(thread.loop, thread.ident), name="watchdog", daemon=True
        ).start()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Stop watching, since the event loop is about to stop."""
        del broker, worker
        self._over.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        seconds = self._context.settings.watchdog_seconds
        while not self._over.is_set():
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            ticks = 0
            while not turned.wait(_TICK_SECONDS):
                ticks += 1
                if self._over.is_set():
                    return
                if ticks * _TICK_SECONDS >= seconds:
                    self._end(loop, loop_thread, ticks * _TICK_SECONDS)
            self._over.wait(_TICK_SECONDS)

    def _end(self, loop: asyncio.AbstractEventLoop, loop_thread: int, seconds: float) -> None:
        # Writing the line may block as well, on a pipe that nobody reads.
        threading.Timer(LAST_LOG_SECONDS, os._exit, (EXIT_STATUS,)).start()
        frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 - there is no other way
        task = asyncio.current_task(loop)
        current_chunks = self._context.current_chunks.get(task) if task else None
        log.error(
            events.WORKER_STUCK,
            worker=self._context.name,
            seconds=seconds,
            stack=logs.describe_stack(frame) if frame else None,
            **(current_chunks._asdict() if current_chunks else {}),
        )
        os._exit(EXIT_STATUS)
