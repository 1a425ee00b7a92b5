"""Laying out sentences and tables in a terminal's width, without cutting anything.

A word is broken only if it is longer than a whole line. An address is one word, so that it can be
copied. A cell that does not fit in its row is printed below it.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

UNLIMITED_WIDTH = 1_000_000
"""The width of files and pipes: each row is one line, for grep."""

GAP = 2
INDENT = 2

_MAX_WORD_WIDTH = 28
"""Longer words may be broken in a column, except addresses."""

_MIN_PROSE_WIDTH = 20
"""The minimum width of a column of prose."""

_words = re.compile(r"\S+")
_words_and_commands = re.compile(r"(?:`[^`\n]*`|[^\s`]|`)+")


class Column(NamedTuple):
    """A column's heading. Optional columns are left out if they do not fit, the last one first."""

    heading: str
    is_optional: bool = False


class Cell(NamedTuple):
    """A cell's text; an unbreakable one is never broken between its words."""

    text: str
    is_unbreakable: bool = False
    right: bool = False


class Table(NamedTuple):
    """The lines of a table, and the headings of columns that were left out."""

    heading: str
    lines: list[str]
    omitted: list[str]


def wrap_text(text: str, width: int, *, commands: bool = False) -> list[str]:
    """Return the lines of a text.

    With `commands`, a command in backticks stays in one line, even a longer one, so that it can be
    copied.
    """
    words = _words_and_commands if commands else _words
    return [line for part in text.split("\n") for line in _wrap_paragraph(part, width, words)]


def _wrap_paragraph(paragraph: str, width: int, words: re.Pattern[str]) -> list[str]:
    if cell_len(paragraph) <= width:
        return [paragraph.rstrip(" ")]
    lines: list[str] = []
    text = paragraph.lstrip(" ")
    margin = " " * min(len(paragraph) - len(text), width // 2)
    line, is_empty, end = margin, True, 0
    for found in words.finditer(text):
        # Several blanks between two words are kept within a line.
        blanks, word = text[end : found.start()], found[0]
        end = found.end()
        if not is_empty and cell_len(line + blanks + word) <= width:
            line += blanks + word
            continue
        if not is_empty:
            lines.append(line)
            line = margin
        is_command = words is _words_and_commands and "`" in word
        if cell_len(line + word) > width and not is_command:
            # At the margin, so that it can be read together where it is longer than any line.
            *full, word = chop_cells(word, max(width, 2))
            lines += full
            line = "" if full or cell_len(line + word) > width else line
        line, is_empty = line + word, False
    return [*lines, line]


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]], width: int) -> Table:
    """Lay out rows under headings, in lines of at most the width."""
    headings = [Cell(column.heading, is_unbreakable=True) for column in columns]
    cells = list(rows)
    in_column = list(zip(headings, *cells, strict=True))
    widths = {n: max(map(_min_width, of)) for n, of in enumerate(in_column)}
    below: list[int] = []
    omitted: list[int] = []
    while len(widths) > 1 and _total_width(widths) > width:
        # The first column names the row.
        _, *others = widths
        empty = [n for n in others if not any(row[n].text for row in cells)]
        optional = [n for n in others if columns[n].is_optional]
        if empty:
            del widths[empty[-1]]
        elif optional:
            omitted.append(optional[-1])
            del widths[optional[-1]]
        else:
            below.append(max(others, key=lambda n: widths[n]))
            del widths[below[-1]]
    # A column that is alone may still be wider than the line.
    widths = {n: min(wide, width) for n, wide in widths.items()}
    full = {n: max(_widest_line(cell.text) for cell in in_column[n]) for n in widths}
    _distribute_width(widths, full, width)
    right = {n for n in widths if any(cell.right for cell in in_column[n])}
    lines = []
    names = {n: columns[n].heading for n in sorted(below)}
    for row in cells:
        lines += _row(row, widths, right)
        lines += [
            line
            for n, name in names.items()
            if row[n].text
            for line in pair(name, row[n].text, max(map(cell_len, names.values())), width, INDENT)
        ]
    heading = _line([columns[n].heading for n in widths], widths, right)
    return Table(heading, lines, [columns[n].heading for n in sorted(omitted)])


def pair(name: str, text: str, names: int, width: int, indent: int = 0) -> list[str]:
    """Lay out a name and its value, which begins after `names` columns, those of the longest name.

    A value with a word that does not fit there begins in its own line.
    """
    begin = indent + names + GAP
    label = " " * indent + name
    if _longest_word(text) <= width - begin:
        first, *more = wrap_text(text, width - begin)
        padded = label + " " * (begin - cell_len(label))
        return [(padded + first).rstrip(" "), *(" " * begin + line for line in more)]
    return [label, *wrap_text(text, width)]


def _row(cells: Sequence[Cell], widths: dict[int, int], right: set[int]) -> list[str]:
    parts = [wrap_text(cells[n].text, wide) for n, wide in widths.items()]
    return [_line(texts, widths, right) for texts in zip_longest(*parts, fillvalue="")]


def _line(texts: Sequence[str], widths: dict[int, int], right: set[int]) -> str:
    shown = []
    for text, (n, wide) in zip(texts, widths.items(), strict=True):
        blanks = " " * (wide - cell_len(text))
        shown.append(blanks + text if n in right else text + blanks)
    return (" " * GAP).join(shown).rstrip(" ")


def _total_width(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _min_width(cell: Cell) -> int:
    """Return the smallest width that cuts nothing."""
    if cell.is_unbreakable:
        return _widest_line(cell.text)
    words = [
        cell_len(word) if "@" in word else min(cell_len(word), _MAX_WORD_WIDTH)
        for word in cell.text.split()
    ]
    return max([min(_widest_line(cell.text), _MIN_PROSE_WIDTH), *words])


def _distribute_width(widths: dict[int, int], natural: dict[int, int], width: int) -> None:
    """Share the free columns evenly between those that need more."""
    while wanting := [n for n in widths if widths[n] < natural[n]]:
        share = (width - _total_width(widths)) // len(wanting)
        if share <= 0:
            return
        for n in wanting:
            widths[n] = min(widths[n] + share, natural[n])


def _widest_line(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)
