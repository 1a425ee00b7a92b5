"""QueueNotifications for new messages while the worker runs."""

from typing import Any

from dramatiq.middleware import Middleware

from workers.queue_listener import QueueListener


class QueueNotifications(Middleware):
    """Starts the thread that wakes consumers, and ends it."""

    def __init__(self, queue_listener: QueueListener) -> None:
        self._queue_listener = queue_listener

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Begin to listen, in the worker's own process."""
        del broker, worker
        self._queue_listener.start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Wake all consumers that wait: they are about to end."""
        del broker, worker
        self._queue_listener.stop()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Leave no thread behind."""
        del broker, worker
        self._queue_listener.join()
