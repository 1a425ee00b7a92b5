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
    """Takes the first SIGTERM, and no other.

    A platform signals every process, and dramatiq's master forwards what it gets, so that each
    worker sees the signal twice. dramatiq takes the second as the wish to die at once, in the
    middle of whatever the threads do; here the first one lets every slice end after its chunk.

    The second may come in the middle of what the first one has begun. An event that is being set is
    not set yet, and to set it once more, in the same thread, would wait for that for ever.
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
