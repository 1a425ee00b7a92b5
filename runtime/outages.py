"""Logging once that a server is unreachable, and once that it has recovered: one line per outage
and process, not one per attempt, of which an outage of a minute has thousands.
"""

import threading
import time
from collections.abc import Callable

from runtime import events, logs
from runtime.events import Event

log = logs.get_logger()

PROBE_TIMEOUT_SECONDS = 5.0
"""How long a server has to answer when it is asked whether it is there."""

OUTAGE_GRACE_SECONDS = 2.0
"""A Postgres that is shut down refuses new connections while those that are open still answer: for
a second, where it is busy."""


class Outage:
    """What this process knows about one server; any thread may tell it.

    Of what is asked within `grace_seconds` of a failure an answer says nothing yet.
    """

    def __init__(self, away: Event, back: Event, *, grace_seconds: float = 0, **keys: str) -> None:
        self._down_event, self._up_event, self._keys = away, back, keys
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._down = False
        self._failed_at = self._back_at = 0.0
        self._recovery_callbacks: list[Callable[[], None]] = []

    def on_recovery(self, callback: Callable[[], None]) -> None:
        """Have this done each time the server is back, before anybody is told."""
        self._recovery_callbacks.append(callback)

    @property
    def is_down(self) -> bool:
        """Whether the server was away when it was last tried."""
        return self._down

    def record_failure(self, error: BaseException, requested_at: float) -> None:
        """The server did not answer what it was asked at that time, by the monotonic clock.

        What it was asked before it was back says nothing of how it is now: time-outs come in late.
        """
        with self._lock:
            if requested_at <= self._back_at:
                return
            begins, self._down = not self._down, True
            self._failed_at = time.monotonic()
        if begins:
            log.warning(self._down_event, error=type(error).__name__, **self._keys)

    def record_success(self, requested_at: float, *, on_new_connection: bool = False) -> None:
        """The server answers what it was asked at that time.

        What it was asked before it failed somebody else says nothing: such answers come in late.
        What it is asked on a connection that was made for it says so without settling.
        """
        if not self._down:
            return
        settles = 0.0 if on_new_connection else self._grace_seconds
        with self._lock:
            if not self._down or requested_at <= self._failed_at + settles:
                return
            self._down = False
            self._back_at = time.monotonic()
        for callback in self._recovery_callbacks:
            callback()
        log.info(self._up_event, **self._keys)


def queue_outage(**keys: str) -> Outage:
    """What is known about Redis."""
    return Outage(events.QUEUE_UNREACHABLE, events.QUEUE_RECOVERED, grace_seconds=0, **keys)
