"""What an import reads from a file: rows to process, and rejections."""

from typing import NamedTuple

from schemas.addresses import NormalizedAddress
from schemas.outcomes import MeaningEnum
from schemas.statuses import Status


class ImportRow(NamedTuple):
    """One contact of an import. `addresses` are its three fields, None where one is empty.

    `line` is the physical line of the file, from 1, on which the row begins. `external_id` is the
    contact's id in the system that the file comes from, where the file has one. `statuses` are
    those that the file states for the three fields; None where the file states none at all.
    """

    line: int
    given_name: str | None
    family_name: str | None
    company: str | None
    tags: tuple[str, ...]
    addresses: tuple[NormalizedAddress | None, NormalizedAddress | None, NormalizedAddress | None]
    external_id: str | None = None
    statuses: tuple[Status | None, Status | None, Status | None] | None = None


class ImportRejectionReason(MeaningEnum):
    """Why a row, or one cell of it, was not imported."""

    NO_ADDRESS = "no_address", "the row has no usable address, so it creates no contact"
    TOO_FEW_CELLS = "too_few_cells", "the row has fewer cells than the header"
    TOO_MANY_CELLS = "too_many_cells", "the row has more cells than the header"
    NOT_TEXT = "not_text", "the row has bytes that are not text in the file's encoding"
    NUL_BYTE = "nul_byte", "the row has a NUL byte"
    CELL_TOO_LARGE = "cell_too_large", "a cell, or the row, is larger than a contact's can be"
    BROKEN_QUOTES = "broken_quotes", "a quotation mark is not closed, or has text after it"
    INVALID_ADDRESS = "invalid_address", "the cell is no email address; the rest of the row counts"
    REPEATED_IN_ROW = "repeated_in_row", "the address is in an earlier field of the row"
    TAG_TOO_LONG = "tag_too_long", "the tag is too long; the rest of the row counts"
    ID_TOO_LONG = "id_too_long", "the contact's id is too long; the rest of the row counts"
    TOO_MANY_ADDRESSES = "too_many_addresses", "the row has more than three addresses"
    UNKNOWN_STATUS = "unknown_status", "a status is unknown, or another column tells of an opt-out"


CELL_REJECTION_REASONS = frozenset(
    {
        ImportRejectionReason.INVALID_ADDRESS,
        ImportRejectionReason.REPEATED_IN_ROW,
        ImportRejectionReason.TAG_TOO_LONG,
        ImportRejectionReason.ID_TOO_LONG,
    }
)
"""Reasons that leave out a cell only. Each row that was left out has exactly one of the others, so
the rows of a file are its import rows and its rejected rows."""


class ImportRejection(NamedTuple):
    """A row or cell that was left out; `detail` explains it in a sentence or two."""

    line: int
    reason: ImportRejectionReason
    detail: str
