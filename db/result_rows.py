"""Result rows as they are sent: few as JSON, many in the binary format of COPY.

The driver encodes rows of any table value by value, which was the largest part of what a chunk
costs in Python. Here most of a row is known beforehand: all rows of a chunk begin alike, and all
rows of a kind end alike.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, TypeAlias

from db.binary_copy import HEADER, TRAILER, encode_text
from schemas.job_key import JobKey
from schemas.outcomes import Cause
from schemas.results import ResultKind, ResultRow

_CHUNK_COLUMNS = ("account_id", "job_id", "chunk_no", "decided_at")
_ROW_COLUMNS = (
    *("item_id", "contact_id", "field", "address_id"),
    *ResultKind._fields,
    "source_address_id",
)
RESULT_COLUMNS = (*_CHUNK_COLUMNS, *_ROW_COLUMNS)
"""The columns of `results`, in the order in which COPY sends them."""

ResultRows: TypeAlias = Mapping[ResultKind, Sequence[ResultRow]]
"""Results by kind."""

Contacts: TypeAlias = Mapping[int, int] | None
"""The contacts of items that have another id than theirs; None if items are not contacts."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEGIN = struct.Struct(">hiqiqiiiq").pack


def contact_of(item: int, cause: Cause, address: int | None, contacts: Contacts) -> int | None:
    """Return the contact that a result is about, or None if there is none.

    A listed address has no contact, but a row propagated from it has. There is none either if the
    item is no contact, or an import row became none.
    """
    if cause is not Cause.PROPAGATED and (contacts is None or address is None):
        return None
    return contacts.get(item, item) if contacts else item


def result_objects(rows: ResultRows, contacts: Contacts) -> list[dict[str, Any]]:
    """Return the rows in order, each by the names of its columns; meant for a few rows."""
    few = sorted(
        (
            (
                *(item, contact_of(item, kind.cause, address, contacts), field, address),
                *kind,
                source,
            )
            for kind, of_kind in rows.items()
            for item, field, address, source in of_kind
        ),
        key=itemgetter(0, 2),
    )
    return [dict(zip(_ROW_COLUMNS, row, strict=True)) for row in few]


def pack_rows(
    job: JobKey, *, chunk_no: int, decided_at: datetime, rows: ResultRows, contacts: Contacts
) -> memoryview:
    """Encode the rows in the binary format of COPY.

    Raises struct.error for a number that does not fit its column.
    """
    microseconds = (decided_at - _EPOCH) // _MICROSECOND
    begin = _BEGIN(
        len(RESULT_COLUMNS), 8, job.account_id, 8, job.job_id, 4, chunk_no, 8, microseconds
    )
    packed: list[tuple[int, int, bytes]] = []
    for kind, of_kind in rows.items():
        end = b"".join(map(encode_text, kind))
        if contacts is None and kind.cause is not Cause.PROPAGATED:
            packed += _pack_without_contact(begin, end, of_kind)
        else:
            packed += _pack_kind(begin, end, of_kind, contacts or {})
    # In the order of the index by which they are read: out of order they would split its pages in
    # the middle, and leave them half empty.
    packed.sort()
    return memoryview(b"".join([HEADER, *(row for _, _, row in packed), TRAILER]))


def _pack_kind(
    begin: bytes, end: bytes, rows: Sequence[ResultRow], contacts: Mapping[int, int]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield item, field and bytes of rows of one kind, each packed by a single call."""
    plain = struct.Struct(f">{len(begin)}siqiqihiq{len(end)}si").pack
    propagated = struct.Struct(f">{len(begin)}siqiqihiq{len(end)}siq").pack
    missing = struct.Struct(f">{len(begin)}siqiihi{len(end)}si").pack
    for item, field, address, source in rows:
        if address is None:
            row = missing(begin, 8, item, -1, 2, field, -1, end, -1)
        else:
            contact = contacts.get(item, item) if contacts else item
            if source is None:
                row = plain(begin, 8, item, 8, contact, 2, field, 8, address, end, -1)
            else:
                row = propagated(begin, 8, item, 8, contact, 2, field, 8, address, end, 8, source)
        yield item, field, row


def _pack_without_contact(
    begin: bytes, end: bytes, rows: Sequence[ResultRow]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield the same for the direct rows of listed addresses."""
    known = struct.Struct(f">{len(begin)}siqiihiq{len(end)}si").pack
    unknown = struct.Struct(f">{len(begin)}siqiihi{len(end)}si").pack
    for item, field, address, _ in rows:
        if address is None:
            row = unknown(begin, 8, item, -1, 2, field, -1, end, -1)
        else:
            row = known(begin, 8, item, -1, 2, field, 8, address, end, -1)
        yield item, field, row
