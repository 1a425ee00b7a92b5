"""The log lines of a worker process's start and end."""

from typing import Any

from dramatiq.middleware import Middleware

from runtime import events, logs
from runtime.version import commit, version
from workers.context import WorkerContext

log = logs.get_logger()


class LifecycleLog(Middleware):
    """Logs `worker.started` after, and `worker.stopped` before, all other middleware."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    def after_worker_boot(self, _broker: Any, worker: Any) -> None:
        """Log that the process is ready for messages."""
        log.info(
            events.WORKER_STARTED,
            threads=worker.worker_threads,
            version=version(),
            commit=commit(self._context.settings),
        )

    def after_worker_shutdown(self, _broker: Any, _worker: Any) -> None:
        """Log that the process ended on request."""
        log.info(events.WORKER_STOPPED)
