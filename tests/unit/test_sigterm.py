"""A worker that is told to end twice ends once."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from runtime.settings import Settings
from workers.context import WorkerContext
from workers.middleware.shutdown import Shutdown


class InterruptedEvent(threading.Event):
    """Is set in the middle of a second SIGTERM, or so it seems to the handler of the first."""

    interruptions = 0

    def set(self) -> None:
        """Set the event, with a second SIGTERM in the middle of the first call."""
        self.interruptions += 1
        if self.interruptions == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        super().set()


@pytest.fixture
def dramatiq_s() -> Iterator[list[int]]:
    """The signals that came through to dramatiq's own handler."""
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_second_signal_in_the_middle_of_the_first_changes_nothing(dramatiq_s: list[int]):
    """Platforms signal every process and the master forwards it: the two may come together. Neither
    does the handler wait for itself, nor is dramatiq told twice, which would end it at once.
    """
    stopping = InterruptedEvent()
    context = WorkerContext(Settings(), job_queue=None, name="worker.1", stopping=stopping)  # type: ignore[arg-type]
    Shutdown(context).before_worker_boot(None, None)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.is_set()
    assert stopping.interruptions == 1
    assert dramatiq_s == [signal.SIGTERM]


def test_any_further_signal_is_ignored(dramatiq_s: list[int]):
    """A platform may signal as often as it likes; SIGHUP counts as SIGTERM does."""
    context = WorkerContext(Settings(), job_queue=None, name="worker.1")  # type: ignore[arg-type]
    Shutdown(context).before_worker_boot(None, None)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert len(dramatiq_s) == 1
