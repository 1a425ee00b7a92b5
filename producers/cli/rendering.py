"""What people and programs see: tables and sentences on a terminal, JSON and CSV elsewhere."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

_WIDTH_WITHOUT_TERMINAL = 200


class _QuietConsole(Console):
    """A reader that has seen enough (`| head`) is no failure."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def out() -> Console:
    """Where answers go. Text is taken literally: what is in the data cannot style the screen."""
    return _console(stderr=False)


def err() -> Console:
    """Where progress, hints and errors go, so that answers can be piped."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    # Without a terminal nobody knows the width, and cells must not be cut for grep and files.
    width = None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL
    return _QuietConsole(stderr=stderr, markup=False, highlight=False, emoji=False, width=width)


def say(text: str) -> None:
    """A sentence of the answer."""
    out().print(printable(text), soft_wrap=True)


def hint(text: str) -> None:
    """A sentence beside the answer."""
    err().print(printable(text), soft_wrap=True, style="dim")


def printable(value: object) -> str:
    """Text that cannot move the cursor or colour the screen, whatever is in the data."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, int):
        return f"{value:,}"
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def counted(count: int, noun: str) -> str:
    """`1 contact`, `2,000 contacts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings; a column of numbers stands to the right."""
    cells = [list(row) for row in rows]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(columns):
        of_numbers = any(isinstance(row[number], int) for row in cells)
        shown.add_column(heading, justify="right" if of_numbers else "left")
    for row in cells:
        shown.add_row(*(printable(cell) for cell in row))
    out().print(shown)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one under the other; what has no value is left out."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value is not None:
            grid.add_row(name, printable(value))
    out().print(grid)


def as_json(value: object) -> None:
    """One JSON document."""
    sys.stdout.write(json.dumps(value, default=_plain, indent=2, ensure_ascii=False) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
