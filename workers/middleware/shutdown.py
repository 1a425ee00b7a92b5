"""Ending in time when the platform asks."""

import itertools
import signal
from types import FrameType
from typing import Any

from dramatiq.middleware import Middleware

from runtime import events, logs
from runtime.version import commit, version
from workers.context import WorkerContext

log = logs.get_logger()


class Shutdown(Middleware):
    """Handles the first SIGTERM, and ignores repetitions.

    A platform signals every process, and dramatiq's master forwards the signal, so that each worker
    sees it twice. dramatiq takes the second as a request to end immediately, in the middle of its
    threads' work. Here the first one lets every slice end after its chunk.

    The second may interrupt the handling of the first. Setting an event that is just being set, in
    the same thread, would deadlock.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Put a handler before dramatiq's own. Runs in the process's main thread."""
        del broker, worker
        theirs = signal.getsignal(signal.SIGTERM)
        # To take the next number is one step, which no signal comes between.
        earlier = itertools.count()

        def once(signum: int, frame: FrameType | None) -> None:
            if next(earlier):
                return
            self._context.stopping.set()
            if callable(theirs):
                theirs(signum, frame)

        signal.signal(signal.SIGTERM, once)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, once)

    def after_worker_boot(self, broker: Any, worker: Any) -> None:
        """Say that the worker is there."""
        del broker
        log.info(
            events.WORKER_STARTED,
            worker=self._context.name,
            threads=worker.worker_threads,
            version=version(),
            commit=commit(self._context.settings),
        )

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Say that the worker ended as it should."""
        del broker, worker
        log.info(events.WORKER_STOPPED, worker=self._context.name)
