"""The rows of a CSV file of any size: one dialect for the whole file, header and rows cut alike."""

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from producers.file_text import MAX_CELL, MAX_LINE, FileText, find_unreadable, read_lines
from producers.import_rejections import (
    RejectedRow,
    broken_quotes,
    cell_too_large,
    not_text,
    nul_byte,
    too_few_cells,
    too_many_cells,
)
from schemas.errors import InvalidRequest
from schemas.staging import ImportRejection, ImportRejectionReason

DELIMITERS = ",;\t|"

Row = tuple[int, list[str]]
"""The physical line on which a row begins, from 1, and its cells."""

_LOOKED_AT = 1_000
"""Lines from the beginning that tell the delimiter of a file without a header."""

# Excel writes, and reads, this line before all others.
_separator_line = re.compile(r'\ufeff?"?sep=([^\w\s"]|\t)"?[ \t,;]*\r?\n?', re.IGNORECASE).fullmatch
_begins_array = re.compile(r"""\s*\[\s*(?:["{\]]|-?[0-9]+\s*[],]|$)""").match
_MAX_NOTE_LINES = 100
_OPEN_ENDED = {ImportRejectionReason.BROKEN_QUOTES, ImportRejectionReason.CELL_TOO_LARGE}
"""Refusals of rows whose end is not known for sure."""


class FirstRow(NamedTuple):
    """The first row as a delimiter cuts it, and how many physical lines it takes."""

    cells: list[str]
    lines: int


class Table:
    """A file whose first row can be looked at before it is known how the file is to be cut.

    Lines of nothing but white space are passed over. Memory stays the same whatever the file has.
    """

    def __init__(self, source: FileText) -> None:
        self._source = source
        self._batches = read_lines(source)
        self._lines: list[str] = []
        self._line = 1
        self._odd = False
        self._ended = False
        self._passing = False
        self._delimiter = ","
        self.delimiters = DELIMITERS
        self._width: int | None = None
        self._usual_width = 1
        self._needed: Sequence[int] | None = None
        self._begin()

    @property
    def first_line(self) -> str:
        """The first line that is not blank; empty where the file has none."""
        return self._lines[0] if self._lines else ""

    def first_rows(self) -> dict[str, FirstRow]:
        """Return the first row by each delimiter that the file may have.

        There is none where a quotation mark is not closed, or has text after it.
        """
        while not (found := self._first_rows()) and self._read_more_of_row():
            pass
        return found

    def peek_cells(self, delimiter: str) -> Iterator[list[str]]:
        """Yield the cells of the first rows, cut by this delimiter, as far as they can be cut."""
        try:
            yield from self._reader(self._lines[:_LOOKED_AT], delimiter)
        except csv.Error:
            return

    def set_dialect(
        self,
        delimiter: str,
        *,
        header: FirstRow | None = None,
        needed: Sequence[int] | None = None,
        usual_width: int = 1,
    ) -> None:
        """Set how the rows to come are cut. With a header, which is left behind, each row has to
        have as many cells; more are fine when they are empty.

        Of the columns that are `needed`, all unless some are named, each cell has to be text.
        """
        self._delimiter = delimiter
        self._needed = needed
        self._usual_width = usual_width
        if header is not None:
            self._width = self._usual_width = len(header.cells)
            del self._lines[: header.lines]
            self._line += header.lines

    def plain_lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines with their numbers, not cut into cells, blank ones left out."""
        while self._lines or self._fill():
            for number, line in enumerate(self._lines, start=self._line):
                if not line.isspace():
                    yield number, line
            self._line += len(self._lines)
            self._lines = []

    def blocks(self) -> Iterator[list[Row | ImportRejection]]:
        """Yield the rows, and what is refused, in the order of the file, a few thousand at a time.

        An unquoted line break ends a row, whatever the number of its cells. One quotation mark too
        many costs its row only.
        """
        while self._lines or self._fill():
            yield self._cut()
            # What is left is the beginning of a row that goes on.
            if self._lines and not self._fill():
                self._ended = True

    def is_blank(self, cells: Sequence[str]) -> bool:
        """Return whether the row's line has nothing but white space."""
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
                "The file is a JSON array. Nothing was stored. Save it as CSV; a list may have one"
                " JSON object a line too."
            )

    def _skip_blank_lines(self) -> None:
        while self._lines or self._fill():
            blank = next((n for n, line in enumerate(self._lines) if not line.isspace()), None)
            taken = len(self._lines) if blank is None else blank
            del self._lines[:taken]
            self._line += taken
            if self._lines:
                return

    def _fill(self) -> bool:
        batch = next(self._batches, None)
        if batch is None:
            self._ended = True
            return False
        self._odd = batch.odd or (self._odd and bool(self._lines))
        self._lines += batch.lines
        return True

    def _read_more_of_row(self) -> bool:
        return sum(map(len, self._lines)) <= MAX_LINE and self._fill()

    def _first_rows(self) -> dict[str, FirstRow]:
        found = {}
        for delimiter in self.delimiters:
            lines = self._lines[:_LOOKED_AT]
            while True:
                reader = self._reader(lines, delimiter)
                try:
                    cells: list[str] = next(reader, [])
                except csv.Error:
                    at = reader.line_num - 1
                    if (tidy := _tidy(lines[at], delimiter)) == lines[at]:
                        break
                    lines[at] = tidy
                    continue
                while cells and not cells[-1].strip():
                    cells.pop()
                if cells:
                    found[delimiter] = FirstRow([cell.strip() for cell in cells], reader.line_num)
                break
        return found

    @staticmethod
    def _reader(lines: Sequence[str], delimiter: str) -> Any:
        return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)

    def _cut(self) -> list[Row | ImportRejection]:
        """Cut the lines at hand; those of a row that goes on are kept."""
        found: list[Row | ImportRejection] = []
        taken: int | None = self._skip_open_cell(0)
        while taken is not None and self._lines:
            # To take them away costs less than to copy what is left, row after broken row.
            del self._lines[:taken]
            self._line += taken
            taken = self._cut_rows(found) if self._lines else 0
        return found

    def _cut_rows(self, found: list[Row | ImportRejection]) -> int | None:
        """Add the rows up to one that is broken; gives how many lines were dealt with, and None
        where those at hand are the beginning of a row.
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
        """Go on behind the lines of a row that csv cannot read; gives what `_cut_rows` does."""
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
            # A name in quotation marks before an address, as mail programs write it.
            found.append((self._line + begin, [row[0].strip()]))
            return end
        elif closing := _find_closing_line(lines, begin, end):
            rejection = _to_rejection(broken_quotes(row[0]), self._line + begin, closing - begin)
            found.append(rejection)
            return closing
        why = cell_too_large() if too_large else broken_quotes(row[0])
        return self._reject_row(why, begin, end, found)

    def _reject_row(
        self, why: RejectedRow, begin: int, end: int, found: list[Row | ImportRejection]
    ) -> int:
        """Refuse the row in these lines; gives where to go on.

        One quotation mark too many makes a cell of all the lines up to the next one. So the first
        line of the row that is a row by itself ends it; and where a cell of a row that may be open
        still is open, lines are passed over up to such a one.
        """
        row = self._lines[begin:end]
        own_row = next((n for n, text in enumerate(row) if n and self._is_row(text)), None)
        self._passing = (
            own_row is None and why.reason in _OPEN_ENDED and "".join(row).count('"') % 2 == 1
        )
        if own_row is not None:
            why = broken_quotes(row[0])
        taken = own_row or len(row)
        found.append(_to_rejection(why, self._line + begin, taken))
        return self._skip_open_cell(begin + taken)

    def _is_usable(self, cells: list[str], row: Sequence[str]) -> bool:
        """Return whether the row is one, and not a blank line. Raises RejectedRow unless it can be
        read; drops empty cells beyond the header's.
        """
        if len(row) == 1 and row[0].isspace():
            return False
        width, needed = self._width, self._needed
        looked_at = cells if needed is None else [cells[n] for n in needed if n < len(cells)]
        text = "".join(row)
        if unreadable := find_unreadable("".join(looked_at)):
            is_nul = unreadable.group() == "\x00"
            raise nul_byte(text) if is_nul else not_text(text, self._source.encoding)
        if len(text) > MAX_LINE or any(len(cell) > MAX_CELL for cell in looked_at):
            raise cell_too_large()
        if width is not None:
            if len(cells) < width:
                raise too_few_cells(text, len(cells), width)
            if extra := next((cell for cell in cells[width:] if cell.strip()), None):
                raise too_many_cells(extra, len(cells), width)
            del cells[width:]
        return True

    def _skip_open_cell(self, at: int) -> int:
        """Return where reading goes on: behind the lines of a cell that was left open."""
        while self._passing and at < len(self._lines):
            if self._is_row(self._lines[at]):
                self._passing = False
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


def _to_rejection(why: RejectedRow, line: int, lines: int) -> ImportRejection:
    through = f" Lines {line} to {line + lines - 1} were left out." if lines > 1 else ""
    return ImportRejection(line, why.reason, why.detail + through)


def _find_closing_line(lines: Sequence[str], begin: int, end: int) -> int | None:
    """Return where a cell of several lines ends that a quotation mark within it has broken.

    What stands in its lines may look like a row, and is what a note mentions.
    """
    if "".join(lines[begin:end]).count('"') % 2 == 0:
        return None
    following = range(end, min(end + _MAX_NOTE_LINES, len(lines)))
    return next((n + 1 for n in following if lines[n].count('"') % 2), None)


def _tidy(line: str, delimiter: str) -> str:
    """Return the line without blanks between quotation marks and the delimiters around them."""
    blank = "[ \u00a0]*" if delimiter == "\t" else "[ \t\u00a0]*"
    cut = re.escape(delimiter)
    # Possessive: to go back would take 100 bytes of memory for each character, and find nothing.
    quoted = f'(^|{cut}){blank}("[^"]*+(?:""[^"]*+)*+"){blank}(?={cut}|\r?\n?$)'
    return re.sub(quoted, r"\1\2", line)


def broken_header_error() -> InvalidRequest:
    """Make the error for a file whose first row cannot be split into cells."""
    return InvalidRequest(
        "The file's first line cannot be cut into cells: a quotation mark is not closed or has text"
        " after it, or a cell is too long. Nothing was stored. Correct the line of headers."
    )
