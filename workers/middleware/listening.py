"""Listening for rings while the worker runs."""

from typing import Any

from dramatiq.middleware import Middleware

from workers.queue_listener import WakeUps


class Listening(Middleware):
    """Starts the thread that wakes consumers, and ends it."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Begin to listen, in the worker's own process."""
        del broker, worker
        self._wake_ups.start()

    def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Wake whoever waits: the consumers are about to end."""
        del broker, worker
        self._wake_ups.stop()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        """Leave no thread behind."""
        del broker, worker
        self._wake_ups.join()
