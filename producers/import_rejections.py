"""What a person is told of each row, or cell, that an import leaves out."""

import re
from collections.abc import Sequence

from producers.file_text import MAX_CELL, MAX_LINE
from schemas.staging import ImportRejection, ImportRejectionReason

MAX_TAG = 200
"""Characters that a tag may have: as many as a selection by tag can name."""

MAX_EXTERNAL_ID = 200
"""Characters that a contact's id in another system may have."""

_SHOWN = 100


class RejectedRow(Exception):
    """The current row is rejected as a whole; control flow, never shown."""

    def __init__(self, reason: ImportRejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def nul_byte(row: str) -> RejectedRow:
    """Reject the row: Postgres stores no NUL byte."""
    return RejectedRow(
        ImportRejectionReason.NUL_BYTE, f"The row has a NUL byte: {quoted(row)}. Remove it."
    )


def not_text(row: str, encoding: str) -> RejectedRow:
    """Reject the row: its bytes are not text in the file's encoding."""
    return RejectedRow(
        ImportRejectionReason.NOT_TEXT,
        # Read over HTTP too, where there are no options.
        f"The row is not text in {encoding}: {quoted(row)}. Import it with the encoding in which"
        " the file was saved; from Excel that is often cp1252.",
    )


def cell_too_large() -> RejectedRow:
    """Reject the row for its size, which is often an unclosed quotation mark's."""
    return RejectedRow(
        ImportRejectionReason.CELL_TOO_LARGE,
        f"A cell has more than {MAX_CELL:,} characters, or the row more than {MAX_LINE:,}. Was a"
        " quotation mark not closed?",
    )


def too_few_cells(row: str, cells: int, width: int) -> RejectedRow:
    """Reject the row: it is not clear which columns are missing."""
    return RejectedRow(
        ImportRejectionReason.TOO_FEW_CELLS,
        f"The row has {_counted(cells)} where the header has {width}: {quoted(row)}.",
    )


def too_many_cells(extra: str, cells: int, width: int) -> RejectedRow:
    """Reject the row: cells may have shifted at a delimiter that was not quoted."""
    return RejectedRow(
        ImportRejectionReason.TOO_MANY_CELLS,
        f"The row has {_counted(cells)} where the header has {width}; {quoted(extra)} is one too"
        " many."
        " A cell that has the delimiter in it belongs in quotation marks.",
    )


def broken_quotes(row: str) -> RejectedRow:
    """Reject the row: where its cells end is not clear."""
    return RejectedRow(
        ImportRejectionReason.BROKEN_QUOTES,
        f"A quotation mark is not closed, or has text after it: {quoted(row)}. Within a quoted"
        " cell each one has to be doubled.",
    )


def no_address(line: int, cells: Sequence[str]) -> ImportRejection:
    """Reject the row's contact: no cell has a usable address."""
    return ImportRejection(
        line,
        ImportRejectionReason.NO_ADDRESS,
        f"The contact was not imported: no usable email address in {quoted(', '.join(cells))}.",
    )


def invalid_address(line: int, cell: str, why: object) -> ImportRejection:
    """Leave out the cell; `why` says what is wrong with it. The other cells are imported."""
    return ImportRejection(
        line, ImportRejectionReason.INVALID_ADDRESS, f"{quoted(cell)} is no email address: {why}"
    )


def repeated_in_row(line: int, cell: str) -> ImportRejection:
    """Leave out the cell: the row has the address already, and it counts once."""
    return ImportRejection(
        line,
        ImportRejectionReason.REPEATED_IN_ROW,
        f"{quoted(cell)} is in an earlier field of the row, and counts once.",
    )


def tag_too_long(line: int, tag: str) -> ImportRejection:
    """Leave out the tag; the contact is imported without it."""
    return ImportRejection(
        line,
        ImportRejectionReason.TAG_TOO_LONG,
        f"The tag {quoted(tag)} has {len(tag):,} characters, and may have {MAX_TAG}; the contact"
        " was imported without it.",
    )


def too_many_addresses(row: str) -> RejectedRow:
    """Reject the row: a contact has three fields, and no address may get lost."""
    return RejectedRow(
        ImportRejectionReason.TOO_MANY_ADDRESSES,
        f"The row has more than three addresses, and a contact has three at most: {quoted(row)}."
        " Give the others a row of their own.",
    )


def unknown_status(cell: str, header: str) -> RejectedRow:
    """Reject the row: an unknown status could be an opt-out."""
    return RejectedRow(
        ImportRejectionReason.UNKNOWN_STATUS,
        f"{quoted(cell)} in the column {quoted(header)} is no status that is known, so it is not"
        " known what may be sent. Write one of Keap's statuses, or yes or no.",
    )


def misplaced_status(cell: str, header: str) -> RejectedRow:
    """Reject the row: an opt-out in a column that is not read must not get lost."""
    column = f"the column {quoted(header)}" if header else "a column without a name"
    return RejectedRow(
        ImportRejectionReason.UNKNOWN_STATUS,
        f"{quoted(cell)} in {column} may say that no mail may be sent, and is not read as a status."
        " Map the column to status, or to ignore where it is about something else.",
    )


def id_too_long(line: int, cell: str) -> ImportRejection:
    """Leave out the external id; the contact is imported without it."""
    return ImportRejection(
        line,
        ImportRejectionReason.ID_TOO_LONG,
        f"The id {quoted(cell)} has {len(cell):,} characters, and may have {MAX_EXTERNAL_ID}; the"
        " contact was imported without it.",
    )


def _counted(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells:,} cells"


def quoted(text: str) -> str:
    """Return the beginning of the text, fit to be stored and shown on one line."""
    shown = " ".join(text[: _SHOWN * 2].split())
    cut = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
    return '"' + re.sub("[\x00-\x1f\x7f\ud800-\udfff]", _as_hexadecimal, cut) + '"'


def _as_hexadecimal(found: re.Match[str]) -> str:
    """Show an undecodable byte by its number: a replacement character would hide it."""
    return f"\\x{ord(found.group()) & 0xFF:02x}"
