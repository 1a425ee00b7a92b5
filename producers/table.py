"""Read the rows of a CSV file of any size: one dialect for the header and all rows."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from producers.column_names import require_width
from producers.file_text import MAX_CELL, MAX_LINE, FileText, find_unreadable, read_lines
from producers.import_rejections import RejectedRow
from schemas.errors import InvalidRequest
from schemas.staging import ImportRejection
from schemas.staging import ImportRejectionReason as Reason

DELIMITERS = ",;\t|"

Row = tuple[int, list[str]]
"""The physical line, from 1, on which a row begins, and its cells."""

_LOOKED_AT = 1_000
"""Lines at the beginning that determine the delimiter of a file without a header."""

# Excel writes, and reads, such a first line.
_separator_line = re.compile(r'\ufeff?"?sep=([^\w\s"]|\t)"?[ \t,;]*\r?\n?', re.IGNORECASE).fullmatch
_begins_array = re.compile(r"""\s*\[\s*(?:["{\]]|-?[0-9]+\s*[],]|$)""").match
_MAX_NOTE_LINES = 100


class FirstRow(NamedTuple):
    """The first row, cut by a delimiter, and its number of physical lines."""

    cells: list[str]
    lines: int


class Table:
    """A file whose first row can be read before its dialect is set.

    It skips lines of white space, and its memory is bounded.
    """

    def __init__(self, source: FileText) -> None:
        self._source = source
        self._batches = read_lines(source)
        self._lines: list[str] = []
        self._line = 1
        self._odd = False
        self._ended = False
        self._is_skipping = False
        self._delimiter = ","
        self.delimiters = DELIMITERS
        self._width: int | None = None
        self._usual_width = 1
        self._needed: Sequence[int] | None = None
        self._begin()

    @property
    def first_line(self) -> str:
        """The first line that is not blank; empty if there is none."""
        return self._lines[0] if self._lines else ""

    def first_rows(self) -> dict[str, FirstRow]:
        """Return the first row by each possible delimiter.

        A delimiter is missing if a quotation mark is not closed by it, or has text after it.
        """
        while True:
            rows = {each: self._first_row(each) for each in self.delimiters}
            found = {each: row for each, row in rows.items() if row is not None}
            if found or sum(map(len, self._lines)) > MAX_LINE or not self._fill():
                return found

    def set_dialect(
        self, delimiter: str, header: FirstRow, *, needed: Sequence[int] | None = None
    ) -> None:
        """Set how the rows after the header are cut.

        Each must have as many cells, and may have further empty ones. Each cell of a column in
        `needed` must be text; None means all columns.
        """
        self._delimiter = delimiter
        self._needed = needed
        self._width = self._usual_width = len(header.cells)
        del self._lines[: header.lines]
        self._line += header.lines

    def guess_dialect(self, count: Callable[[list[str]], int]) -> None:
        """Set the dialect, for a file without a header, by which the first rows count most."""
        self._delimiter = max(self.delimiters, key=lambda each: sum(map(count, self._peek(each))))
        self._needed = ()
        if (first := self._first_row(self._delimiter)) is not None:
            self._usual_width = len(first.cells)

    def _peek(self, delimiter: str) -> Iterator[list[str]]:
        """Yield the cells of the first rows, cut by this delimiter, as far as it can cut them."""
        with suppress(csv.Error):
            yield from self._reader(self._lines[:_LOOKED_AT], delimiter)

    def find_header(self, find_columns: Callable[[list[str]], list[int]]) -> list[int] | None:
        """Set the dialect in which the first row has most of the wanted columns, if there is one.

        Return the columns, or None if the first row has none. Raises InvalidRequest for too many
        columns in the file.
        """
        rows = self.first_rows()
        found = {
            each: columns for each, row in rows.items() if (columns := find_columns(row.cells))
        }
        if not found:
            return None
        delimiter = max(found, key=lambda each: (len(found[each]), len(rows[each].cells)))
        require_width(rows[delimiter].cells)
        self.set_dialect(delimiter, rows[delimiter], needed=found[delimiter])
        return found[delimiter]

    def plain_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, with their numbers."""
        while self._lines or self._fill():
            for number, line in enumerate(self._lines, start=self._line):
                if not line.isspace():
                    yield number, line
            self._line += len(self._lines)
            self._lines = []

    def blocks(self) -> Iterator[list[Row | ImportRejection]]:
        """Yield the rows and rejections in the order of the file, a few thousand at a time.

        An unquoted line break ends a row, even one with too few cells. A surplus quotation mark
        loses only its own row.
        """
        while self._lines or self._fill():
            yield self._cut()
            # The rest is the beginning of an unfinished row.
            if self._lines and not self._fill():
                self._ended = True

    def is_blank(self, cells: Sequence[str]) -> bool:
        """Return whether the row's line has only white space."""
        blank = self._delimiter == "\t" or len(cells) == 1
        return blank and not any(cell.strip() for cell in cells)

    def _begin(self) -> None:
        self._skip_blank_lines()
        if found := _separator_line(self.first_line):
            self.delimiters = found[1]
            del self._lines[0]
            self._line += 1
            self._skip_blank_lines()
        if _begins_array(self.first_line):
            raise InvalidRequest(
                "The file is a JSON array. Nothing was stored. Save it as CSV; a list may also have"
                " one JSON object per line."
            )

    def _skip_blank_lines(self) -> None:
        while self._lines or self._fill():
            lines = self._lines
            taken = next((n for n, line in enumerate(lines) if not line.isspace()), len(lines))
            del lines[:taken]
            self._line += taken
            if lines:
                return

    def _fill(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            self._ended = True
            return False
        self._odd = batch.odd or (self._odd and bool(self._lines))
        self._lines += batch.lines
        return True

    def _first_row(self, delimiter: str) -> FirstRow | None:
        lines = self._lines[:_LOOKED_AT]
        while True:
            reader = self._reader(lines, delimiter)
            try:
                cells = [cell.strip() for cell in next(reader, [])]
            except csv.Error:
                at = reader.line_num - 1
                if (tidy := _tidy(lines[at], delimiter)) == lines[at]:
                    return None
                lines[at] = tidy
            else:
                while cells and not cells[-1]:
                    cells.pop()
                return FirstRow(cells, reader.line_num) if cells else None

    @staticmethod
    def _reader(lines: Sequence[str], delimiter: str) -> Any:
        return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)

    def _cut(self) -> list[Row | ImportRejection]:
        """Cut the read lines into rows, but keep those of an unfinished row."""
        found: list[Row | ImportRejection] = []
        taken: int | None = self._skip_open_cell(0)
        while taken is not None and self._lines:
            # Deleting lines is cheaper than copying the rest after each broken row.
            del self._lines[:taken]
            self._line += taken
            taken = self._cut_rows(found) if self._lines else 0
        return found

    def _cut_rows(self, found: list[Row | ImportRejection]) -> int | None:
        """Add the rows up to a broken one, and return how many lines are done.

        Return None if the lines are the beginning of an unfinished row.
        """
        lines, width, odd = self._lines, self._width, self._odd
        number = self._line
        reader = self._reader(lines, self._delimiter)
        begin = end = 0
        try:
            for cells in reader:
                end = reader.line_num
                if odd or end - begin > 1 or (len(cells) != width and width is not None):
                    usable = self._is_usable(cells, lines[begin:end])
                else:
                    usable = bool(cells)
                if usable:
                    found.append((number + begin, cells))
                begin = end
        except csv.Error as error:
            return self._skip_broken_row(str(error), begin, reader.line_num, found)
        except RejectedRow as why:
            return self._reject_row(why, begin, end, found)
        return len(lines)

    def _skip_broken_row(
        self, error: str, begin: int, end: int, found: list[Row | ImportRejection]
    ) -> int | None:
        """Skip the lines of a row that csv cannot read, and return as `_cut_rows` does."""
        lines = self._lines
        row = lines[begin:end]
        too_large = "field limit" in error or sum(map(len, row)) > MAX_LINE
        if error.startswith("unexpected end"):
            if not self._ended and not too_large:
                self._lines, self._line = row, self._line + begin
                return None
        elif (tidy := _tidy(row[-1], self._delimiter)) != row[-1]:
            lines[end - 1] = tidy
            return begin
        elif self._width is None and len(row) == 1 and row[0].count('"') % 2 == 0:
            # A quoted name before an address, as mail programs write it.
            found.append((self._line + begin, [row[0].strip()]))
            return end
        elif closing := _find_closing_line(lines, begin, end):
            broken = RejectedRow(Reason.BROKEN_QUOTES, row=row[0])
            found.append(broken.at(self._line + begin, closing - begin))
            return closing
        reason = Reason.CELL_TOO_LARGE if too_large else Reason.BROKEN_QUOTES
        why = RejectedRow(reason, row=row[0])
        return self._reject_row(why, begin, end, found)

    def _reject_row(
        self, why: RejectedRow, begin: int, end: int, found: list[Row | ImportRejection]
    ) -> int:
        """Reject the row in these lines, and return where to continue.

        A surplus quotation mark makes one cell of all lines up to the next one. So the first line
        that is a row by itself ends the broken row. If a cell is still open, lines are skipped up
        to such a line.
        """
        row = self._lines[begin:end]
        own_row = next((n for n, text in enumerate(row) if n and self._is_row(text)), None)
        is_open = why.reason in {Reason.BROKEN_QUOTES, Reason.CELL_TOO_LARGE}
        self._is_skipping = own_row is None and is_open and "".join(row).count('"') % 2 == 1
        if own_row is not None:
            why = RejectedRow(Reason.BROKEN_QUOTES, row=row[0])
        taken = own_row or len(row)
        found.append(why.at(self._line + begin, taken))
        return self._skip_open_cell(begin + taken)

    def _is_usable(self, cells: list[str], row: Sequence[str]) -> bool:
        """Return False for a blank line; drop empty cells beyond the header's.

        Raises RejectedRow if the row cannot be read.
        """
        if len(row) == 1 and row[0].isspace():
            return False
        width, needed = self._width, self._needed
        checked = cells if needed is None else [cells[n] for n in needed if n < len(cells)]
        text = "".join(row)
        if unreadable := find_unreadable("".join(checked)):
            reason = Reason.NUL_BYTE if unreadable.group() == "\x00" else Reason.NOT_TEXT
            raise RejectedRow(reason, row=text, encoding=self._source.encoding)
        if len(text) > MAX_LINE or any(len(cell) > MAX_CELL for cell in checked):
            raise RejectedRow(Reason.CELL_TOO_LARGE)
        if width is not None:
            if len(cells) < width:
                raise RejectedRow(Reason.TOO_FEW_CELLS, row=text, cells=len(cells), width=width)
            if extra := next((cell for cell in cells[width:] if cell.strip()), None):
                raise RejectedRow(Reason.TOO_MANY_CELLS, cell=extra, cells=len(cells), width=width)
            del cells[width:]
        return True

    def _skip_open_cell(self, at: int) -> int:
        """Return where to continue, after the lines of a cell that was left open."""
        while self._is_skipping and at < len(self._lines):
            if self._is_row(self._lines[at]):
                self._is_skipping = False
            else:
                at += 1
        return at

    def _is_row(self, line: str) -> bool:
        if line.count('"') % 2 or line.isspace():
            return False
        try:
            cells: list[str] = next(self._reader([line], self._delimiter), [])
        except csv.Error:
            return False
        return len(cells) == self._usual_width


def _find_closing_line(lines: Sequence[str], begin: int, end: int) -> int | None:
    """Return the end of a cell of several lines with a quotation mark inside.

    A line of the cell, such as a note, may look like a row.
    """
    if "".join(lines[begin:end]).count('"') % 2 == 0:
        return None
    following = range(end, min(end + _MAX_NOTE_LINES, len(lines)))
    return next((n + 1 for n in following if lines[n].count('"') % 2), None)


def _tidy(line: str, delimiter: str) -> str:
    """Return the line without blanks between quotation marks and the delimiters around them."""
    blank = "[ \u00a0]*" if delimiter == "\t" else "[ \t\u00a0]*"
    cut = re.escape(delimiter)
    # Possessive: backtracking would take 100 bytes of memory per character, and find nothing.
    quoted = f'(^|{cut}){blank}("[^"]*+(?:""[^"]*+)*+"){blank}(?={cut}|\r?\n?$)'
    return re.sub(quoted, r"\1\2", line)


def broken_header_error() -> InvalidRequest:
    """Return the error of a file whose first row no delimiter can cut."""
    return InvalidRequest(
        "The file's first line cannot be cut into cells: a quotation mark is not closed or"
        " has text after it, or a cell is too long. Nothing was stored. Correct the header."
    )
