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
    """The row in hand is refused as a whole; shown to nobody."""

    def __init__(self, reason: ImportRejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def nul_byte(row: str) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.NUL_BYTE, f"The row has a NUL byte: {quoted(row)}. Remove it."
    )


def not_text(row: str, encoding: str) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.NOT_TEXT,
        # Read over HTTP too, where there are no options.
        f"The row is not text in {encoding}: {quoted(row)}. Import it with the encoding in which"
        " the file was saved; from Excel that is often cp1252.",
    )


def cell_too_large() -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.CELL_TOO_LARGE,
        f"A cell has more than {MAX_CELL:,} characters, or the row more than {MAX_LINE:,}. Was a"
        " quotation mark not closed?",
    )


def too_few_cells(row: str, cells: int, width: int) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.TOO_FEW_CELLS,
        f"The row has {_counted(cells)} where the header has {width}: {quoted(row)}.",
    )


def too_many_cells(extra: str, cells: int, width: int) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.TOO_MANY_CELLS,
        f"The row has {_counted(cells)} where the header has {width}; {quoted(extra)} is one too"
        " many."
        " A cell that has the delimiter in it belongs in quotation marks.",
    )


def broken_quotes(row: str) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.BROKEN_QUOTES,
        f"A quotation mark is not closed, or has text after it: {quoted(row)}. Within a quoted"
        " cell each one has to be doubled.",
    )


def no_address(line: int, cells: Sequence[str]) -> ImportRejection:
    return ImportRejection(
        line,
        ImportRejectionReason.NO_ADDRESS,
        f"The contact was not imported: no usable email address in {quoted(', '.join(cells))}.",
    )


def invalid_address(line: int, cell: str, why: object) -> ImportRejection:
    return ImportRejection(
        line, ImportRejectionReason.INVALID_ADDRESS, f"{quoted(cell)} is no email address: {why}"
    )


def repeated_in_row(line: int, cell: str) -> ImportRejection:
    return ImportRejection(
        line,
        ImportRejectionReason.REPEATED_IN_ROW,
        f"{quoted(cell)} is in an earlier field of the row, and counts once.",
    )


def tag_too_long(line: int, tag: str) -> ImportRejection:
    return ImportRejection(
        line,
        ImportRejectionReason.TAG_TOO_LONG,
        f"The tag {quoted(tag)} has {len(tag):,} characters, and may have {MAX_TAG}; the contact"
        " was imported without it.",
    )


def too_many_addresses(row: str) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.TOO_MANY_ADDRESSES,
        f"The row has more than three addresses, and a contact has three at most: {quoted(row)}."
        " Give the others a row of their own.",
    )


def unknown_status(cell: str, header: str) -> RejectedRow:
    return RejectedRow(
        ImportRejectionReason.UNKNOWN_STATUS,
        f"{quoted(cell)} in the column {quoted(header)} is no status that is known, so it is not"
        " known what may be sent. Write one of Keap's statuses, or yes or no.",
    )


def misplaced_status(cell: str, header: str) -> RejectedRow:
    column = f"the column {quoted(header)}" if header else "a column without a name"
    return RejectedRow(
        ImportRejectionReason.UNKNOWN_STATUS,
        f"{quoted(cell)} in {column} may say that no mail may be sent, and is not read as a status."
        " Map the column to status, or to ignore where it is about something else.",
    )


def id_too_long(line: int, cell: str) -> ImportRejection:
    return ImportRejection(
        line,
        ImportRejectionReason.ID_TOO_LONG,
        f"The id {quoted(cell)} has {len(cell):,} characters, and may have {MAX_EXTERNAL_ID}; the"
        " contact was imported without it.",
    )


def _counted(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells:,} cells"


def quoted(text: str) -> str:
    """The text's beginning, fit to be stored and to be shown on one line."""
    shown = " ".join(text[: _SHOWN * 2].split())
    cut = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
    return '"' + re.sub("[\x00-\x1f\x7f\ud800-\udfff]", _as_hexadecimal, cut) + '"'


def _as_hexadecimal(found: re.Match[str]) -> str:
    """A byte that is not text is told as it is: a replacement character would hide it."""
    return f"\\x{ord(found.group()) & 0xFF:02x}"
