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
"""EX_SOFTWARE: an internal error."""

LAST_LOG_SECONDS = 5.0
"""How long writing `worker.stuck` may take."""

_TICK_SECONDS = 0.25


class Watchdog(Middleware):
    """Ends the process when its event loop is blocked for `WATCHDOG_SECONDS`.

    One blocking call stalls everything in the process, while its threads still send heartbeats to
    Redis. When the process ends, so do its connections. Its chunks are pending again, and the
    platform starts another process. Time is counted in ticks of the watchdog: after a suspension of
    hours, one tick has passed.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._stopped = threading.Event()

    def after_worker_boot(self, _broker: Any, _worker: Any) -> None:
        """Start watching."""
        thread = get_event_loop_thread()
        assert thread is not None
        threading.Thread(
            target=self._watch, args=(thread.loop, thread.ident), name="watchdog", daemon=True
        ).start()

    def after_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        """Stop watching: the event loop is about to stop."""
        self._stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        seconds = self._context.settings.watchdog_seconds
        while not self._stopped.is_set():
            responded = threading.Event()
            loop.call_soon_threadsafe(responded.set)
            ticks = 0
            while not responded.wait(_TICK_SECONDS):
                ticks += 1
                if self._stopped.is_set():
                    return
                if ticks * _TICK_SECONDS >= seconds:
                    self._end_process(loop, loop_thread, ticks * _TICK_SECONDS)
            self._stopped.wait(_TICK_SECONDS)

    def _end_process(
        self, loop: asyncio.AbstractEventLoop, loop_thread: int, seconds: float
    ) -> None:
        # Writing the line may block too, on a pipe that nobody reads.
        threading.Timer(LAST_LOG_SECONDS, os._exit, (EXIT_STATUS,)).start()
        frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 - the only way to see another thread
        task = asyncio.current_task(loop)
        log.error(
            events.WORKER_STUCK,
            seconds=seconds,
            stack=logs.describe_stack(frame) if frame else None,
            **(self._context.current_chunks.get(task, {}) if task else {}),
        )
        os._exit(EXIT_STATUS)
