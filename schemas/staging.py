"""What an import makes of a file: rows to be worked, and refusals to be explained."""

from enum import StrEnum
from typing import NamedTuple

from schemas.addresses import NormalizedAddress
from schemas.statuses import Status


class ImportRow(NamedTuple):
    """One contact of an import. `identities` are its three fields, None where one is empty.

    `line` is the physical line of the file, from 1, on which the row begins. `external_id` is the
    contact's id in the system that the file comes from, where the file has one. `statuses` are
    those that the file states for the three fields; None where the file states none at all.
    """

    line: int
    given_name: str | None
    family_name: str | None
    company: str | None
    tags: tuple[str, ...]
    identities: tuple[NormalizedAddress | None, NormalizedAddress | None, NormalizedAddress | None]
    external_id: str | None = None
    statuses: tuple[Status | None, Status | None, Status | None] | None = None


class ImportRejectionReason(StrEnum):
    """Why a row, or one cell of it, was not imported."""

    NO_ADDRESS = "no_address"
    TOO_FEW_CELLS = "too_few_cells"
    TOO_MANY_CELLS = "too_many_cells"
    NOT_TEXT = "not_text"
    NUL_BYTE = "nul_byte"
    CELL_TOO_LARGE = "cell_too_large"
    BROKEN_QUOTES = "broken_quotes"
    INVALID_ADDRESS = "invalid_address"
    REPEATED_IN_ROW = "repeated_in_row"
    TAG_TOO_LONG = "tag_too_long"
    ID_TOO_LONG = "id_too_long"
    TOO_MANY_ADDRESSES = "too_many_addresses"
    UNKNOWN_STATUS = "unknown_status"


CELL_REJECTION_REASONS = frozenset(
    {
        ImportRejectionReason.INVALID_ADDRESS,
        ImportRejectionReason.REPEATED_IN_ROW,
        ImportRejectionReason.TAG_TOO_LONG,
        ImportRejectionReason.ID_TOO_LONG,
    }
)
"""Reasons that leave out a cell only. Each row that was not imported has one of the others, once,
so rows of the file = contacts staged + refusals of rows."""

IMPORT_REJECTION_MEANINGS: dict[ImportRejectionReason, str] = {
    ImportRejectionReason.NO_ADDRESS: "the row has no usable address, so there is nobody to import",
    ImportRejectionReason.TOO_FEW_CELLS: "the row has fewer cells than the header",
    ImportRejectionReason.TOO_MANY_CELLS: "the row has more cells than the header",
    ImportRejectionReason.NOT_TEXT: "the row has bytes that are not text in the file's encoding",
    ImportRejectionReason.NUL_BYTE: "the row has a NUL byte, which no text has",
    ImportRejectionReason.CELL_TOO_LARGE: "a cell, or the row, is larger than any contact's",
    ImportRejectionReason.BROKEN_QUOTES: "a quotation mark is not closed, or has text after it",
    ImportRejectionReason.INVALID_ADDRESS: "the cell is no email address; the rest counts",
    ImportRejectionReason.REPEATED_IN_ROW: "the address is in an earlier field of the row",
    ImportRejectionReason.TAG_TOO_LONG: "the tag is too long to be one; the rest of the row counts",
    ImportRejectionReason.ID_TOO_LONG: "the contact's id is too long; the rest of the row counts",
    ImportRejectionReason.TOO_MANY_ADDRESSES: "the row has more than three addresses",
    ImportRejectionReason.UNKNOWN_STATUS: "a status column has a text that is not understood, or a"
    " column that is not read tells of an opt-out; consent is never assumed from that",
}


class ImportRejection(NamedTuple):
    """A row or cell that was not imported; `detail` is a sentence or two for people."""

    line: int
    reason: ImportRejectionReason
    detail: str
