"""What an import makes of a file: rows to be worked, and refusals to be explained."""

from enum import StrEnum
from typing import NamedTuple

from schemas.addresses import Identity
from schemas.statuses import Status


class StagedRow(NamedTuple):
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
    identities: tuple[Identity | None, Identity | None, Identity | None]
    external_id: str | None = None
    statuses: tuple[Status | None, Status | None, Status | None] | None = None


class RefusalReason(StrEnum):
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


CELL_REASONS = frozenset(
    {
        RefusalReason.INVALID_ADDRESS,
        RefusalReason.REPEATED_IN_ROW,
        RefusalReason.TAG_TOO_LONG,
        RefusalReason.ID_TOO_LONG,
    }
)
"""Reasons that leave out a cell only. Each row that was not imported has one of the others, once,
so rows of the file = contacts staged + refusals of rows."""

REFUSAL_MEANINGS: dict[RefusalReason, str] = {
    RefusalReason.NO_ADDRESS: "the row has no usable address, so there is nobody to import",
    RefusalReason.TOO_FEW_CELLS: "the row has fewer cells than the header",
    RefusalReason.TOO_MANY_CELLS: "the row has more cells than the header",
    RefusalReason.NOT_TEXT: "the row has bytes that are not text in the file's encoding",
    RefusalReason.NUL_BYTE: "the row has a NUL byte, which no text has",
    RefusalReason.CELL_TOO_LARGE: "a cell, or the row, is larger than any contact's would be",
    RefusalReason.BROKEN_QUOTES: "a quotation mark is not closed, or has text after it",
    RefusalReason.INVALID_ADDRESS: "the cell is no email address; the rest of the row counts",
    RefusalReason.REPEATED_IN_ROW: "the address is in an earlier field of the row; that one counts",
    RefusalReason.TAG_TOO_LONG: "the tag is too long to be one; the rest of the row counts",
    RefusalReason.ID_TOO_LONG: "the contact's id is too long; the rest of the row counts",
    RefusalReason.TOO_MANY_ADDRESSES: "the row has more than three addresses",
    RefusalReason.UNKNOWN_STATUS: "a status column has a text that is not understood, or a"
    " column that is not read tells of an opt-out; consent is never assumed from that",
}


class Refusal(NamedTuple):
    """A row or cell that was not imported; `detail` is a sentence or two for people."""

    line: int
    reason: RefusalReason
    detail: str
