"""A worker process that gets several signals shuts down once."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from workers.shutdown import stop_on_signals


class InterruptedEvent(threading.Event):
    """An event whose `set` is interrupted by a second SIGTERM."""

    interruptions = 0

    def set(self) -> None:
        """Set the event; raise a second SIGTERM within the first call."""
        self.interruptions += 1
        if self.interruptions == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        super().set()


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """Return the signals that were passed on to dramatiq's handler."""
    passed_on: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, lambda number, _frame: passed_on.append(number))
    yield passed_on
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_second_signal_during_the_first_changes_nothing(passed_on: list[int]):
    """A platform signals every process and the master forwards the signal, so two may arrive
    together. The handler neither deadlocks nor notifies dramatiq twice.
    """
    stopping = InterruptedEvent()
    stop_on_signals(stopping)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.is_set()
    assert stopping.interruptions == 1
    assert passed_on == [signal.SIGTERM]


def test_any_further_signal_is_ignored(passed_on: list[int]):
    """For any number of signals, dramatiq is notified once. SIGHUP counts as SIGTERM."""
    stop_on_signals(threading.Event())
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert passed_on == [signal.SIGHUP]
