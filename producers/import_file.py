"""Read a contact CSV of any size: contacts to stage, and import rejections to store."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple

from producers.csv_header import count_known_headers, read_header
from producers.file_text import FileText, encoding_advice, find_unreadable
from producers.formula_guard import strip_formula_guard
from producers.import_rejections import (
    MAX_EXTERNAL_ID,
    MAX_TAG,
    RejectedRow,
    misplaced_status,
    reject,
)
from producers.short_text_cache import cache_short_texts
from producers.status_cells import (
    UnknownStatus,
    applies_to_person,
    find_suppressing_cell,
    is_suppressing,
    parse_status,
    strongest,
)
from producers.table import Table, broken_header_error
from schemas.addresses import (
    InvalidAddress,
    NormalizedAddress,
    find_correction,
    implausible_address,
    normalize_plain_address,
    parse_address,
)
from schemas.errors import InvalidRequest
from schemas.staging import ImportRejection, ImportRow
from schemas.staging import ImportRejectionReason as Reason
from schemas.statuses import OPTED_OUT, Status

_new = tuple.__new__


@contextmanager
def open_contacts(
    file: str | Path | BinaryIO,
    *,
    mapping: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
) -> Iterator["ContactFile"]:
    """Open a contact CSV by its path, or read an open binary file, which stays open.

    `mapping` has the meaning of unknown headers (see `column_names.MEANINGS`). Raises
    InvalidRequest for a file that cannot be imported at all.
    """
    opened: AbstractContextManager[BinaryIO]
    # Only opening may fail so; the file is closed below.
    try:
        opened = Path(file).open("rb") if isinstance(file, str | Path) else nullcontext(file)  # noqa: SIM115
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidRequest(
            f"{file} cannot be read: {why}. Nothing was stored. Give a file that can be read."
        ) from error
    with opened as stream:
        yield ContactFile(stream, mapping=mapping or {}, encoding=encoding)


class Block(NamedTuple):
    """Some rows of a file: contacts, and rejections, each in the order of the file."""

    rows: list[ImportRow]
    rejections: list[ImportRejection]


class ContactFile:
    """A contact CSV whose header was read, and whose rows are still to be read.

    Each row must have as many cells as the header, and may have further empty ones. Memory is
    bounded. `columns` are those of the header, and `text` is the file's.
    """

    def __init__(self, stream: BinaryIO, *, mapping: Mapping[str, str], encoding: str) -> None:
        self.text = FileText(stream, encoding)
        self._table = Table(self.text)
        self._require_text_at_first()
        rows = self._table.first_rows()
        known = {each: count_known_headers(row.cells, mapping) for each, row in rows.items()}
        if not any(known.values()) and len(known) < len(self._table.delimiters):
            raise broken_header_error()
        delimiter = max(rows, key=lambda each: (known[each], len(rows[each].cells)))
        self._headers = rows[delimiter].cells
        self.columns = read_header(self._headers, mapping)
        self._table.set_dialect(delimiter, rows[delimiter])

    def blocks(self) -> Iterator[Block]:
        """Yield the contacts and rejections once, a few thousand rows at a time."""
        for found in self._table.blocks():
            block = Block([], [])
            for row in found:
                if isinstance(row, ImportRejection):
                    block.rejections.append(row)
                    continue
                line, cells = row
                try:
                    contact = self._contact(line, cells, block.rejections)
                except RejectedRow as why:
                    block.rejections.append(why.at(line))
                    continue
                if contact is not None:
                    block.rows.append(contact)
                elif not self._table.is_blank(cells):
                    block.rejections.append(reject(line, Reason.NO_ADDRESS, row=", ".join(cells)))
            yield block

    def _require_text_at_first(self) -> None:
        first = self._table.first_line
        if not first:
            raise InvalidRequest(
                "The file is empty. Nothing was stored. Give a file with a header."
            )
        found = find_unreadable(first)
        if found and found.group() == "\x00":
            raise InvalidRequest(
                "The file has NUL bytes in its first line, so it is not CSV. Nothing was stored."
                " Save it as CSV UTF-8 and import that file."
            )
        if found:
            raise InvalidRequest(
                f"The file's first line is not text in {self.text.encoding}. Nothing was stored."
                f" {encoding_advice(self.text.encoding)}"
            )

    def _contact(
        self, line: int, cells: list[str], rejections: list[ImportRejection]
    ) -> ImportRow | None:
        """Return the import row, or None if it has no usable address.

        Append rejected cells to `rejections`. Raises RejectedRow for a row that is left out as a
        whole.
        """
        columns = self.columns
        addresses: list[NormalizedAddress | None] = [None, None, None]
        asked = self._fill(addresses, line, cells, rejections)
        if not any(addresses):
            return None
        unmapped = [cells[column] for column in columns.unmapped]
        if unmapped and (found := find_suppressing_cell(unmapped)):
            column = columns.unmapped[unmapped.index(found)]
            raise misplaced_status(found, self._headers[column])
        cells.append("")  # for columns that the file does not have
        list_tags, too_long, suppressing = _split_tags(cells[columns.tags])
        if suppressing:
            raise misplaced_status(suppressing, self._headers[columns.tags])
        if too_long:
            rejections.append(
                reject(line, Reason.TAG_TOO_LONG, cell=too_long, length=len(too_long))
            )
        external_id = cells[columns.external_id].strip() or None
        if external_id is not None and len(external_id) > MAX_EXTERNAL_ID:
            rejections.append(
                reject(line, Reason.ID_TOO_LONG, cell=external_id, length=len(external_id))
            )
            external_id = None
        row: ImportRow = _new(
            ImportRow,
            (
                line,
                cells[columns.given_name].strip() or None,
                cells[columns.family_name].strip() or None,
                cells[columns.company].strip() or None,
                list_tags,
                tuple(addresses),
                external_id,
                self._statuses(cells, addresses, asked) if columns.statuses else None,
            ),
        )
        return row

    def _fill(
        self,
        addresses: list[NormalizedAddress | None],
        line: int,
        cells: Sequence[str],
        rejections: list[ImportRejection],
    ) -> dict[int, int]:
        """Put the row's addresses into their fields; return where each wanted field's address is.

        Raises RejectedRow for more addresses than there are fields.
        """
        fields: dict[str, int] = {}
        asked: dict[int, int] = {}
        for wanted, column in self.columns.addresses:
            cell = cells[column]
            if not cell:
                continue
            normalized = normalize_plain_address(cell)
            if normalized is None:
                if cell.isspace():
                    continue
                try:
                    normalized = parse_plausible_address(cell)
                except InvalidAddress as error:
                    rejections.append(reject(line, Reason.INVALID_ADDRESS, cell=cell, why=error))
                    continue
            key = normalized[1]
            field = wanted
            if field is None and None in addresses:
                field = addresses.index(None)
            if key in fields:
                rejections.append(reject(line, Reason.REPEATED_IN_ROW, cell=cell))
                field = fields[key]
            elif field is None:
                raise RejectedRow(Reason.TOO_MANY_ADDRESSES, row=", ".join(cells))
            else:
                fields[key] = field
                addresses[field] = normalized
            if wanted is not None:
                asked[wanted] = field
        return asked

    def _statuses(
        self,
        cells: Sequence[str],
        addresses: Sequence[NormalizedAddress | None],
        asked: Mapping[int, int],
    ) -> tuple[Status | None, Status | None, Status | None] | None:
        """Return the row's status for each field; `asked` maps a column's field to its address's.

        An opt-out is a person's: it applies to all addresses, and is not lost with an invalid one.
        Raises RejectedRow for a text that is not understood.
        """
        stated: list[Status | None] = [None, None, None]
        filled = [field for field, normalized in enumerate(addresses) if normalized is not None]
        for column, meaning, of_field in self.columns.statuses:
            try:
                status = parse_status(cells[column], meaning)
            except UnknownStatus:
                raise RejectedRow(
                    Reason.UNKNOWN_STATUS, cell=cells[column], header=self._headers[column]
                ) from None
            if status is None:
                continue
            if of_field is not None and of_field in asked:
                fields = [asked[of_field]]
            elif of_field is not None:
                fields = filled if status in OPTED_OUT else []
            else:
                fields = filled if applies_to_person(status) else filled[:1]
            for field in fields:
                stated[field] = strongest(stated[field], status)
        first, second, third = stated
        return (first, second, third) if first or second or third else None


def parse_plausible_address(cell: str) -> NormalizedAddress:
    """Return the address in the cell; raises InvalidAddress for a certain misspelling."""
    normalized = parse_address(strip_formula_guard(cell))
    correction = find_correction(normalized)
    if correction is not None and correction.is_certain:
        raise implausible_address(normalized, correction.intended)
    return normalized


@cache_short_texts(maxsize=256)
def _split_tags(cell: str) -> tuple[tuple[str, ...], str | None, str | None]:
    """Return the tags between commas or semicolons, one too long, and one that opts out."""
    tags = dict.fromkeys(tag for part in re.split("[,;]", cell) if (tag := part.strip()))
    too_long = next((tag for tag in tags if len(tag) > MAX_TAG), None)
    suppressing = next(filter(is_suppressing, tags), None)
    return tuple(tag for tag in tags if len(tag) <= MAX_TAG), too_long, suppressing
