"""What a long measurement says while it goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from bench.measuring import Show


class Steps:
    """Shows the step at hand in a terminal, and keeps how many seconds each part has taken."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self.parts: dict[str, float] = {}

    @contextmanager
    def step(self, label: str) -> Iterator[Show]:
        """A line of the progress display, there while something is done."""
        task = self._progress.add_task(label, total=None)

        def show(done: int, planned: int) -> None:
            self._progress.update(task, completed=done, total=planned or None)

        try:
            yield show
        finally:
            self._progress.remove_task(task)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of the measurement; says at its end how long it took."""
        began = time.monotonic()
        with self.step(name):
            yield
        self.parts[name] = round(time.monotonic() - began, 1)
        self.say(f"{name}: {self.parts[name]:.0f} s")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False)
