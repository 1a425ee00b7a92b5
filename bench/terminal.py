"""How a measurement shows itself in a terminal, and how it is ended from there."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

INTERRUPTED = 130
"""The exit status after Ctrl-C."""

_TABLE_WIDTH = 130


def bar(console: Console, *, hidden: bool) -> Progress:
    """A line for each step that is being done; nothing where the console is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=hidden or not console.is_terminal,
    )


def wide_console() -> Console:
    """Where the output is no terminal, a table may be as wide as it needs to be."""
    console = Console()
    return console if console.is_terminal else Console(width=_TABLE_WIDTH)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does, with everything cleaned up."""

    def end(_signum: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
