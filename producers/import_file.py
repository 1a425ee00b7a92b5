"""Reads a contact CSV of any size, row by row: contacts to be staged, and refusals to be kept."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from producers.csv_header import count_known_headers, read_header
from producers.file_text import FileText, encoding_advice, find_unreadable
from producers.formula_guard import strip_formula_guard
from producers.import_rejections import (
    MAX_EXTERNAL_ID,
    MAX_TAG,
    RejectedRow,
    id_too_long,
    invalid_address,
    misplaced_status,
    no_address,
    repeated_in_row,
    tag_too_long,
    too_many_addresses,
    unknown_status,
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
from schemas.statuses import OPTED_OUT, Status

_new = tuple.__new__


@contextmanager
def open_contacts(
    file: str | Path | BinaryIO,
    *,
    mapping: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
) -> Iterator["ContactFile"]:
    """Open a contact CSV by its path, or as an open binary file, which stays open.

    `mapping` gives the meaning of unknown headers (see `column_names.MEANINGS`). Raises
    InvalidRequest for a file that cannot be an import as a whole.
    """
    if not isinstance(file, str | Path):
        yield ContactFile(file, mapping=mapping or {}, encoding=encoding)
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115  only to open it may fail so; closed below
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidRequest(f"{file} cannot be read: {why}. Nothing was stored.") from error
    with stream:
        yield ContactFile(stream, mapping=mapping or {}, encoding=encoding)


class Block(NamedTuple):
    """Some rows of a file: contacts, and what was refused, each in the order of the file."""

    rows: list[ImportRow]
    rejections: list[ImportRejection]


class ContactFile:
    """A contact CSV being read: its header is understood, its rows are still to come.

    Each row has to have as many cells as the header; more are fine when they are empty. Memory
    stays the same whatever the file holds.
    """

    def __init__(self, stream: BinaryIO, *, mapping: Mapping[str, str], encoding: str) -> None:
        self._text = FileText(stream, encoding)
        self._table = Table(self._text)
        self._require_text_at_first()
        rows = self._table.first_rows()
        known = {each: count_known_headers(row.cells, mapping) for each, row in rows.items()}
        if not any(known.values()) and len(known) < len(self._table.delimiters):
            raise broken_header_error()
        delimiter = max(rows, key=lambda each: (known[each], len(rows[each].cells)))
        self._headers = rows[delimiter].cells
        self._columns = read_header(self._headers, mapping)
        self._table.set_dialect(delimiter, header=rows[delimiter])

    @property
    def bytes_read(self) -> int:
        """How much of the file was read so far."""
        return self._text.bytes_read

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """The headers of the columns that are not read."""
        return self._columns.ignored

    @property
    def has_statuses(self) -> bool:
        """Whether a column of the file states what may be sent."""
        return bool(self._columns.statuses)

    def digest(self) -> str:
        """Return the SHA-256 of the file, once its rows were read to the end."""
        return self._text.digest()

    def drain(self) -> None:
        """Read the rest of the file for its digest alone."""
        self._text.drain()

    def blocks(self) -> Iterator[Block]:
        """Yield the contacts and refusals, a few thousand rows at a time, once."""
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
                    block.rejections.append(ImportRejection(line, why.reason, why.detail))
                    continue
                if contact is not None:
                    block.rows.append(contact)
                elif not self._table.is_blank(cells):
                    block.rejections.append(no_address(line, cells))
            yield block

    def _require_text_at_first(self) -> None:
        first = self._table.first_line
        if not first:
            raise InvalidRequest(
                "The file is empty. Nothing was stored. Its first line has to name the columns."
            )
        found = find_unreadable(first)
        if found and found.group() == "\x00":
            raise InvalidRequest(
                "The file has NUL bytes in its first line, so it is no CSV. Nothing was stored."
                " Save it as CSV UTF-8 and import that."
            )
        if found:
            raise InvalidRequest(
                f"The file's first line is not text in {self._text.encoding}. Nothing was stored."
                f" {encoding_advice(self._text.encoding)}"
            )

    def _contact(
        self, line: int, cells: list[str], rejections: list[ImportRejection]
    ) -> ImportRow | None:
        """Return the row's contact, or None without a usable address. Rejected cells are added.

        Raises RejectedRow for a row that must not be imported at all.
        """
        columns = self._columns
        identities: list[NormalizedAddress | None] = [None, None, None]
        asked = self._fill(identities, line, cells, rejections)
        if not any(identities):
            return None
        if columns.unmapped:
            self._require_silent(cells, columns.unmapped)
        cells.append("")  # where columns that the file does not have are found
        list_tags, too_long, suppressing = _split_tags(cells[columns.tags])
        if suppressing:
            raise misplaced_status(suppressing, self._headers[columns.tags])
        if too_long:
            rejections.append(tag_too_long(line, too_long))
        known_as = cells[columns.external_id].strip() or None
        if known_as is not None and len(known_as) > MAX_EXTERNAL_ID:
            rejections.append(id_too_long(line, known_as))
            known_as = None
        row: ImportRow = _new(
            ImportRow,
            (
                line,
                cells[columns.given_name].strip() or None,
                cells[columns.family_name].strip() or None,
                cells[columns.company].strip() or None,
                list_tags,
                tuple(identities),
                known_as,
                self._statuses(cells, identities, asked) if columns.statuses else None,
            ),
        )
        return row

    def _fill(
        self,
        identities: list[NormalizedAddress | None],
        line: int,
        cells: Sequence[str],
        rejections: list[ImportRejection],
    ) -> dict[int, int]:
        """Put the row's addresses into their fields; gives in which field that of each is found.

        Raises RejectedRow for more addresses than there are fields.
        """
        fields: dict[str, int] = {}
        asked: dict[int, int] = {}
        for wanted, column in self._columns.addresses:
            cell = cells[column]
            if not cell:
                continue
            identity = normalize_plain_address(cell)
            if identity is None:
                if cell.isspace():
                    continue
                try:
                    identity = parse_plausible_address(cell)
                except InvalidAddress as error:
                    rejections.append(invalid_address(line, cell, error))
                    continue
            key = identity[1]
            field = _free(identities) if wanted is None else wanted
            if key in fields:
                rejections.append(repeated_in_row(line, cell))
                field = fields[key]
            elif field is None:
                raise too_many_addresses(", ".join(cells))
            else:
                fields[key] = field
                identities[field] = identity
            if wanted is not None:
                asked[wanted] = field
        return asked

    def _require_silent(self, cells: Sequence[str], unmapped: Sequence[int]) -> None:
        """Raise RejectedRow where a column that is not read says that no mail may be sent."""
        if found := find_suppressing_cell([cells[column] for column in unmapped]):
            column = next(column for column in unmapped if cells[column] == found)
            raise misplaced_status(found, self._headers[column])

    def _statuses(
        self,
        cells: Sequence[str],
        identities: Sequence[NormalizedAddress | None],
        asked: Mapping[int, int],
    ) -> tuple[Status | None, Status | None, Status | None] | None:
        """Return the status that the row states for each field.

        `asked` maps each address's place to its field. An opt-out concerns the person: it applies
        to all addresses, even if the address it stood by cannot be used. Raises RejectedRow for an
        unknown text.
        """
        stated: list[Status | None] = [None, None, None]
        filled = [field for field, identity in enumerate(identities) if identity is not None]
        for column, meaning, of_field in self._columns.statuses:
            try:
                status = parse_status(cells[column], meaning)
            except UnknownStatus:
                raise unknown_status(cells[column], self._headers[column]) from None
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
    """Parse the cell's address; raises InvalidAddress if another one is certainly intended."""
    identity = parse_address(strip_formula_guard(cell))
    doubt = find_correction(identity)
    if doubt is not None and doubt.is_certain:
        raise implausible_address(identity, doubt.intended)
    return identity


def _free(identities: Sequence[NormalizedAddress | None]) -> int | None:
    return next((field for field, identity in enumerate(identities) if identity is None), None)


@cache_short_texts(maxsize=256)
def _split_tags(cell: str) -> tuple[tuple[str, ...], str | None, str | None]:
    """Split a cell at commas or semicolons into tags.

    Return the tags, one that is too long, if any, and one that tells of an opt-out, if any.
    """
    tags = dict.fromkeys(tag for part in re.split("[,;]", cell) if (tag := part.strip()))
    too_long = next((tag for tag in tags if len(tag) > MAX_TAG), None)
    suppressing = next(filter(is_suppressing, tags), None)
    return tuple(tag for tag in tags if len(tag) <= MAX_TAG), too_long, suppressing
