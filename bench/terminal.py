"""How a measurement shows itself in a terminal."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_TABLE_WIDTH = 170


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
