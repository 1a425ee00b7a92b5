"""A worker process that gets several signals ends once."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from workers.shutdown import stop_on_signals


class InterruptedEvent(threading.Event):
    """An event that a second SIGTERM interrupts while it is being set."""

    interruptions = 0

    def set(self) -> None:
        """Set the event, with a second SIGTERM in the middle of the first call."""
        self.interruptions += 1
        if self.interruptions == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        super().set()


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """The signals that were passed on to dramatiq's handler."""
    passed_on: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, lambda number, _frame: passed_on.append(number))
    yield passed_on
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_second_signal_in_the_middle_of_the_first_changes_nothing(passed_on: list[int]):
    """A platform signals every process and the master forwards the signal, so two may come
    together. The handler neither waits for itself nor tells dramatiq twice.
    """
    stopping = InterruptedEvent()
    stop_on_signals(stopping)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.is_set()
    assert stopping.interruptions == 1
    assert passed_on == [signal.SIGTERM]


def test_any_further_signal_is_ignored(passed_on: list[int]):
    """However many come, dramatiq is told once. SIGHUP counts as SIGTERM does."""
    stop_on_signals(threading.Event())
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert passed_on == [signal.SIGHUP]
