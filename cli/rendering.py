"""Output for people and programs: sentences and tables, or JSON."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console

from cli import layout
from cli.layout import UNLIMITED_WIDTH, Cell, Column
from runtime.program import expand_program_name

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_AGES = ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (2 * _DAY, _HOUR, "h"), (60 * _DAY, _DAY, "d"))
"""Below which age (seconds) a unit is used, the unit's seconds, and its name."""


def get_stdout() -> Console:
    """Return where answers go. Text is literal, so that data cannot style the screen."""
    return Console(markup=False, highlight=False, emoji=False)


def get_stderr() -> Console:
    """Return where progress, hints and errors go, so that answers can be piped."""
    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def width() -> int:
    """Return the width in columns: COLUMNS, else that of the terminal of standard output."""
    return shutil.get_terminal_size((UNLIMITED_WIDTH, 0)).columns


def print_text(text: str, *, style: str | None = None) -> None:
    """Print a sentence of the answer; commands in it can be copied and run here."""
    _print(get_stdout(), text, style)


def print_hint(text: str) -> None:
    """Print a sentence that is not part of the answer."""
    _print(get_stderr(), text, "dim")


def print_error(text: str) -> None:
    """Print the text of an error."""
    _print(get_stderr(), text, "red")


def print_command(command: str) -> None:
    """Print a command in its own line, unbroken, so that it can be copied."""
    get_stdout().print(f"  {to_printable(command)}", soft_wrap=True)


def _print(console: Console, text: str, style: str | None) -> None:
    lines = layout.wrap_text(to_printable(expand_program_name(text)), width(), commands=True)
    console.print("\n".join(lines), soft_wrap=True, style=style)


def to_printable(value: object) -> str:
    """Return text that cannot move the cursor or color the screen, whatever the data is."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, int):
        return f"{value:,}"
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def format_count(count: int, noun: str) -> str:
    """Return `1 contact`, `2,000 contacts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_age(moment: datetime, now: datetime | None = None) -> Cell:
    """Return how long ago that was, in one unit; after 60 days, the date."""
    seconds = max(int(((now or datetime.now(UTC)) - moment).total_seconds()), 0)
    for up_to, unit, name in _AGES:
        if seconds < up_to:
            return Cell(f"{seconds // unit} {name} ago", is_unbreakable=True)
    return Cell(moment.astimezone(UTC).strftime("%Y-%m-%d"), is_unbreakable=True)


def print_table(columns: Sequence[str | Column], rows: Iterable[Sequence[object]]) -> list[str]:
    """Print rows under headings, and return the headings of columns that did not fit.

    Numbers are aligned to the right.
    """
    named = [Column(each) if isinstance(each, str) else each for each in columns]
    laid = layout.table(named, [[_cell(value) for value in row] for row in rows], width())
    console = get_stdout()
    console.print(laid.heading, soft_wrap=True, style="bold")
    for line in laid.lines:
        console.print(line, soft_wrap=True)
    return laid.omitted


def print_facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one under the other, without those that are None."""
    told = [(name, to_printable(value)) for name, value in pairs if value is not None]
    names = max((cell_len(name) for name, _ in told), default=0)
    for name, text in told:
        for line in layout.pair(name, text, names, width()):
            get_stdout().print(line, soft_wrap=True)


def _cell(value: object) -> Cell:
    if isinstance(value, Cell):
        return value
    return Cell(
        to_printable(value),
        is_unbreakable=isinstance(value, int | datetime),
        right=isinstance(value, int),
    )


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def print_answer(value: object, text: str, *, json_output: bool) -> None:
    """Print the answer of a command: a JSON document for programs, else sentences."""
    if json_output:
        print_json(value)
    else:
        print_text(text)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return the JSON of the value; what is not printable is escaped.

    So data cannot send commands to the terminal.
    """
    text = json.dumps(value, default=_encode_value, indent=indent, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _encode_value(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
