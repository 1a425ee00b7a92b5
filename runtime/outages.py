"""Log once that a server is unreachable, and once that it has recovered.

That is one line per outage and process, not one per attempt, of which a minute has thousands.
"""

import threading
import time
from collections.abc import Callable

from runtime import events, logs
from runtime.event_keys import Event

log = logs.get_logger()

PROBE_TIMEOUT_SECONDS = 5.0
"""How long a server may take to answer a probe."""

OUTAGE_GRACE_SECONDS = 2.0
"""How long open connections may still answer after a Postgres began to shut down."""


class Outage:
    """The state of one server as this process sees it; thread-safe.

    An answer to a request within `grace_seconds` after a failure does not end the outage.
    """

    def __init__(self, down_event: Event, up_event: Event, *, grace_seconds: float = 0) -> None:
        self._down_event, self._up_event = down_event, up_event
        self._grace_seconds = grace_seconds
        self._lock = threading.Lock()
        self._down = False
        self._failed_at = self._recovered_at = 0.0
        self._recovery_callbacks: list[Callable[[], None]] = []

    def on_recovery(self, callback: Callable[[], None]) -> None:
        """Call `callback` at each recovery, before it is logged."""
        self._recovery_callbacks.append(callback)

    @property
    def is_down(self) -> bool:
        """True if the server did not answer when it was last asked."""
        return self._down

    def record_failure(self, error: BaseException, requested_at: float) -> None:
        """Record that the server did not answer what it was asked at that monotonic time.

        A request made before the recovery says nothing about the present: timeouts arrive late.
        """
        with self._lock:
            if requested_at <= self._recovered_at:
                return
            is_new, self._down = not self._down, True
            self._failed_at = time.monotonic()
        if is_new:
            log.warning(self._down_event, error=type(error).__name__)

    def record_success(self, requested_at: float, *, on_new_connection: bool = False) -> None:
        """Record that the server answered what it was asked at that monotonic time.

        A request made before another one failed says nothing about the present: such answers arrive
        late. An answer on a connection opened for it ends the outage without further proof.
        """
        if not self._down:
            return
        grace_seconds = 0.0 if on_new_connection else self._grace_seconds
        with self._lock:
            if not self._down or requested_at <= self._failed_at + grace_seconds:
                return
            self._down = False
            self._recovered_at = time.monotonic()
        for callback in self._recovery_callbacks:
            callback()
        log.info(self._up_event)


def database_outage() -> Outage:
    """Make the tracker of Postgres's outages."""
    return Outage(
        events.DATABASE_UNREACHABLE,
        events.DATABASE_RECOVERED,
        grace_seconds=OUTAGE_GRACE_SECONDS,
    )


def queue_outage() -> Outage:
    """Make the tracker of Redis's outages."""
    return Outage(events.QUEUE_UNREACHABLE, events.QUEUE_RECOVERED)
