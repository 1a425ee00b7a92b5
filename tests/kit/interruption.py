"""Being ended from outside."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run, with everything cleaned up, also where a shell has told it to
    ignore Ctrl-C. Those that come later change nothing: cleaning up is under way.
    """
    ending = False

    def end(_signum: int, _frame: FrameType | None) -> None:
        nonlocal ending
        if not ending:
            ending = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
