"""Reads a contact CSV of any size, row by row: contacts to be staged, and refusals to be kept."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from producers.csv_header import read_header
from producers.csv_lines import MAX_CELL, MAX_LINE, PhysicalLines, RowTooLong, is_unreadable
from producers.import_bytes import ImportBytes, require_encoding
from producers.import_refusals import (
    MAX_TAG,
    UnusableRow,
    broken_quotes,
    cell_too_large,
    encoding_advice,
    invalid_address,
    no_address,
    not_text,
    nul_byte,
    repeated_in_row,
    tag_too_long,
    too_few_cells,
    too_many_cells,
)
from schemas.addresses import Identity, InvalidAddress, identify
from schemas.errors import WrongInput
from schemas.staging import Refusal, RefusalReason, StagedRow

_MAX_HEADER_LINES = 100


@contextmanager
def open_contacts(
    file: str | Path | BinaryIO,
    *,
    mapping: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
) -> Iterator["ContactFile"]:
    """A contact CSV, by its path or as an open binary file (which is left open).

    `mapping` tells the meaning of headers that differ from Keap's (see `csv_header.MEANINGS`).
    Raises WrongInput for a file that cannot be an import as a whole.
    """
    if not isinstance(file, str | Path):
        yield ContactFile(file, mapping=mapping or {}, encoding=encoding)
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  only to open it may fail so; closed below
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise WrongInput(f"{file} cannot be read: {why}. Nothing was stored.") from error
    with stream:
        yield ContactFile(stream, mapping=mapping or {}, encoding=encoding)


class ContactFile:
    """A contact CSV being read: its header is understood, its rows are still to come.

    Iterating gives each contact and each refusal in the order of the file, once; lines of nothing
    but white space are passed over. Each row has to have as many cells as the header; more are
    fine when they are empty. Memory stays the same whatever the file holds.
    """

    def __init__(self, stream: BinaryIO, *, mapping: Mapping[str, str], encoding: str) -> None:
        require_encoding(encoding)
        self._encoding = encoding
        self._bytes = ImportBytes(stream)
        self._lines = PhysicalLines(self._bytes, encoding)
        self._line = 1
        self._columns = read_header(self._take_header(), mapping)

    @property
    def bytes_read(self) -> int:
        """How much of the file was read so far."""
        return self._bytes.bytes_read

    def digest(self) -> str:
        """SHA-256 of the file, once its rows were read to the end."""
        return self._bytes.digest()

    def drain(self) -> None:
        """Read the rest of the file for its digest alone."""
        while self._bytes.read(MAX_LINE):
            pass

    def __iter__(self) -> Iterator[StagedRow | Refusal]:
        while True:
            reader = csv.reader(
                self._lines.for_rows(), delimiter=self._columns.delimiter, strict=True
            )
            try:
                yield from self._rows(reader)
            except (csv.Error, RowTooLong, UnusableRow) as error:
                refusal = self._refuse_row(error)
            else:
                return
            yield refusal

    def _take_header(self) -> str:
        header = ""
        while (line := self._lines.take()) is not None and self._line <= _MAX_HEADER_LINES:
            self._line += 1
            header = "" if (header + line).isspace() else header + line
            if header and header.count('"') % 2 == 0:
                break
        if not header:
            raise WrongInput("The file is empty; nothing was stored. Its first line names columns.")
        if is_unreadable(header) == "\x00":
            raise WrongInput(
                "The file has NUL bytes in its first line, so it is no CSV; nothing was stored."
                " Save it as CSV UTF-8 and import that."
            )
        if is_unreadable(header):
            raise WrongInput(
                f"The file's first line is not text in {self._encoding}; nothing was stored."
                f" {encoding_advice(self._encoding)}"
            )
        return header

    def _rows(self, reader: Iterator[list[str]]) -> Iterator[StagedRow | Refusal]:
        lines = self._lines
        held = lines.held
        width = self._columns.width
        refusals: list[Refusal] = []
        for cells in reader:
            if (
                len(cells) != width
                or len(held) > 1
                or len(held[0]) > MAX_CELL
                or self._line <= lines.suspect_through
            ) and not _is_blank(held):
                self._require_usable(cells)
            row = self._contact(cells, refusals) if len(cells) == width else None
            if refusals:
                yield from refusals
                refusals.clear()
            if row:
                yield row
            elif not _is_blank(held):
                yield no_address(self._line, cells)
            self._line += len(held)
            held.clear()

    def _contact(self, cells: list[str], refusals: list[Refusal]) -> StagedRow | None:
        """The contact of a row; None without a usable address. Refused cells are added."""
        _, _, given_name, family_name, company, tags, addresses = self._columns
        identities: list[Identity | None] = [None, None, None]
        keys = []
        for field, column in addresses:
            cell = cells[column]
            if not cell or cell.isspace():
                continue
            try:
                identity = identify(cell)
            except InvalidAddress as error:
                refusals.append(invalid_address(self._line, cell, error))
                continue
            if identity.match_key in keys:
                refusals.append(repeated_in_row(self._line, cell, field))
                continue
            keys.append(identity.match_key)
            identities[field] = identity
        if not keys:
            return None
        cells.append("")  # where columns that the file does not have are found
        tag_names, too_long = _split_tags(cells[tags])
        if too_long:
            refusals.append(tag_too_long(self._line, too_long))
        first, second, third = identities
        return StagedRow(
            self._line,
            cells[given_name].strip() or None,
            cells[family_name].strip() or None,
            cells[company].strip() or None,
            tag_names,
            (first, second, third),
        )

    def _require_usable(self, cells: list[str]) -> None:
        """Raise UnusableRow unless the row can be read; drops empty cells beyond the header's."""
        row = "".join(self._lines.held)
        width = self._columns.width
        unreadable = is_unreadable(row)
        if unreadable == "\x00":
            raise nul_byte(row)
        if unreadable:
            raise not_text(row, self._encoding)
        if any(len(cell) > MAX_CELL for cell in cells):
            raise cell_too_large()
        if len(cells) < width:
            raise too_few_cells(row, len(cells), width)
        if extra := next((cell for cell in cells[width:] if cell.strip()), None):
            raise too_many_cells(extra, len(cells), width)
        del cells[width:]

    def _refuse_row(self, error: csv.Error | RowTooLong | UnusableRow) -> Refusal:
        """Refuse the row in hand and leave it behind."""
        first = self._line
        begun = self._lines.held[0]
        if not isinstance(error, UnusableRow):
            too_large = isinstance(error, RowTooLong) or "field limit" in str(error)
            error = cell_too_large() if too_large else broken_quotes(begun)
        if self._leave_row(open_ended=error.reason in _OPEN_ENDED):
            error = broken_quotes(begun)
        last = self._line - 1
        through = f" Lines {first} to {last} were left out." if last > first else ""
        return Refusal(first, error.reason, error.detail + through)

    def _leave_row(self, *, open_ended: bool) -> bool:
        """Go on behind a row that cannot be read; tells whether it had swallowed others.

        One quotation mark too many makes a cell of all the lines up to the next one. So the first
        line of the row that is a row by itself ends it; and where a cell of an `open_ended` row
        still is open, lines are passed over up to such a one.
        """
        held = self._lines.held
        end = next((n for n, line in enumerate(held) if n and self._is_row(line)), None)
        still_open = open_ended and "".join(held).count('"') % 2 == 1
        self._lines.put_back(held[end:] if end else ())
        self._line += end or len(held)
        held.clear()
        if still_open and not end:
            self._pass_over_lines()
        return end is not None

    def _pass_over_lines(self) -> None:
        while (line := self._lines.take()) is not None:
            if self._is_row(line):
                self._lines.put_back([line])
                return
            self._line += 1

    def _is_row(self, line: str) -> bool:
        if line.count('"') % 2 or line.isspace():
            return False
        try:
            cells = next(csv.reader([line], delimiter=self._columns.delimiter, strict=True), [])
        except csv.Error:
            return False
        return len(cells) == self._columns.width


_OPEN_ENDED = {RefusalReason.BROKEN_QUOTES, RefusalReason.CELL_TOO_LARGE}
"""Refusals of rows whose end is not known for sure."""


def _is_blank(held: Sequence[str]) -> bool:
    return len(held) == 1 and held[0].isspace()


@lru_cache(maxsize=256)
def _split_tags(cell: str) -> tuple[tuple[str, ...], str | None]:
    """The tags of a cell, divided by commas or semicolons, and one that is too long, if any."""
    tags = dict.fromkeys(tag for part in re.split("[,;]", cell) if (tag := part.strip()))
    too_long = next((tag for tag in tags if len(tag) > MAX_TAG), None)
    return tuple(tag for tag in tags if len(tag) <= MAX_TAG), too_long
