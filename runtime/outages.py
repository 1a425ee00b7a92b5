"""Logging once that a server is unreachable, and once that it has recovered.

That is one line per outage and process, not one per attempt, of which a minute has thousands.
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
        """Record that the server did not answer what it was asked at that monotonic time.

        A request made before the recovery says nothing about the present: timeouts arrive late.
        """
        with self._lock:
            if requested_at <= self._back_at:
                return
            begins, self._down = not self._down, True
            self._failed_at = time.monotonic()
        if begins:
            log.warning(self._down_event, error=type(error).__name__, **self._keys)

    def record_success(self, requested_at: float, *, on_new_connection: bool = False) -> None:
        """Record that the server answered what it was asked at that monotonic time.

        A request made before another one failed says nothing about the present: such answers arrive
        late. An answer on a connection opened for it ends the outage without further proof.
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
    """Make the tracker of Redis's outages; `keys` are added to its log lines."""
    return Outage(events.QUEUE_UNREACHABLE, events.QUEUE_RECOVERED, grace_seconds=0, **keys)
