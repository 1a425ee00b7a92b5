"""The rows and cells that an import leaves out, each with a sentence for people."""

import re

from producers.file_text import MAX_CELL, MAX_LINE
from schemas.staging import ImportRejection
from schemas.staging import ImportRejectionReason as Reason

MAX_TAG = 200
"""Characters of a tag, as in a selection by tag."""

MAX_EXTERNAL_ID = 200
"""Characters of a contact's id in another system."""

_SHOWN = 100

# The command line and HTTP both show these, so they name no option of either.
_DETAILS = {
    Reason.NUL_BYTE: "The row has a NUL byte: {row}. Remove it.",
    Reason.NOT_TEXT: "The row is not text in {encoding}: {row}. Import it with the encoding in"
    " which the file was saved; from Excel that is often cp1252.",
    Reason.CELL_TOO_LARGE: f"A cell has more than {MAX_CELL:,} characters, or the row more than"
    f" {MAX_LINE:,}. Check for a quotation mark that is not closed.",
    Reason.TOO_FEW_CELLS: "The row has {cells:,} of the header's {width:,} cells: {row}.",
    Reason.TOO_MANY_CELLS: "The row has {cells:,} cells, but the header has {width:,}: {cell} is"
    " one too many. Put a cell that contains the delimiter in quotation marks.",
    Reason.BROKEN_QUOTES: "A quotation mark is not closed, or has text after it: {row}. Double each"
    " quotation mark within a quoted cell.",
    Reason.NO_ADDRESS: "The contact was not imported: no usable email address in {row}.",
    Reason.INVALID_ADDRESS: "{cell} is not an email address: {why}",
    Reason.REPEATED_IN_ROW: "{cell} is in an earlier field of the row, and counts once.",
    Reason.TAG_TOO_LONG: "The tag {cell} has {length:,} characters; the limit is"
    f" {MAX_TAG}. The contact was imported without it.",
    Reason.ID_TOO_LONG: "The id {cell} has {length:,} characters; the limit is"
    f" {MAX_EXTERNAL_ID}. The contact was imported without it.",
    Reason.TOO_MANY_ADDRESSES: "The row has more than three addresses, the limit of a contact:"
    " {row}. Give the others a row of their own.",
    Reason.UNKNOWN_STATUS: "{cell} in the column {header} is not a known status, so it is unclear"
    " what may be sent. Write one of Keap's statuses, or yes or no.",
}
_MISPLACED_STATUS = (
    "{cell} in the column {header} may be an opt-out, but that column is not read as a status. Map"
    " it to status, or to ignore if it is about something else."
)
_UNQUOTED = {"encoding", "why"}


class RejectedRow(Exception):
    """Raised to leave out a whole row. Its detail shows the `values`, texts quoted."""

    def __init__(self, reason: Reason, template: str = "", **values: object) -> None:
        self.reason = reason
        self.detail = (template or _DETAILS[reason]).format_map(
            {
                name: quoted(value) if isinstance(value, str) and name not in _UNQUOTED else value
                for name, value in values.items()
            }
        )
        super().__init__(self.detail)

    def at(self, line: int, lines: int = 1) -> ImportRejection:
        """Return the rejection of the row in these lines."""
        through = f" Lines {line} to {line + lines - 1} were left out." if lines > 1 else ""
        return ImportRejection(line, self.reason, self.detail + through)


def reject(line: int, reason: Reason, **values: object) -> ImportRejection:
    """Return the rejection of a cell, or of a row in one line."""
    return RejectedRow(reason, "", **values).at(line)


def misplaced_status(cell: str, header: str) -> RejectedRow:
    """Return the error for an opt-out in a column that is not read as a status."""
    return RejectedRow(
        Reason.UNKNOWN_STATUS, _MISPLACED_STATUS, cell=cell, header=header or "(no name)"
    )


def quoted(text: str) -> str:
    """Return the beginning of the text, quoted, on one line, and without unstorable characters."""
    shown = " ".join(text[: _SHOWN * 2].split())
    cut = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
    return '"' + re.sub("[\x00-\x1f\x7f\ud800-\udfff]", _as_hexadecimal, cut) + '"'


def _as_hexadecimal(found: re.Match[str]) -> str:
    # A replacement character would hide which byte is wrong.
    return f"\\x{ord(found.group()) & 0xFF:02x}"
