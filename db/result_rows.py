"""Encode result rows: a few as JSON, many in the binary format of COPY.

The driver encodes each value by itself, which took most of a chunk's time in Python. Here each row
takes one call: all rows of a chunk begin with the same bytes, and all of one kind end with the
same bytes.
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
STORED_COLUMNS = (*_CHUNK_COLUMNS, *_ROW_COLUMNS)
"""The columns of `results`, in the order in which COPY sends them."""

ResultRows: TypeAlias = Mapping[ResultKind, Sequence[ResultRow]]
"""Results by kind."""

Contacts: TypeAlias = Mapping[int, int] | None
"""Maps an item's id to its contact's id where the two differ; None if the items are listed
addresses, which have no contact."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEGIN = struct.Struct(">hiqiqiiiq").pack


def contact_of(item: int, cause: Cause, address: int | None, contacts: Contacts) -> int | None:
    """Return the contact that a result is about, or None if there is none.

    There is none for a listed address, an id that no contact has, and an import row that became no
    contact. A propagated result always has one: the contact that holds both addresses.
    """
    if cause is not Cause.PROPAGATED and (contacts is None or address is None):
        return None
    return contacts.get(item, item) if contacts else item


def result_objects(rows: ResultRows, contacts: Contacts) -> list[dict[str, Any]]:
    """Return the rows as JSON objects with column names, in order of item and field."""
    values = [
        (item, contact_of(item, kind.cause, address, contacts), field, address, *kind, source)
        for kind, of_kind in rows.items()
        for item, field, address, source in of_kind
    ]
    return [
        dict(zip(_ROW_COLUMNS, row, strict=True)) for row in sorted(values, key=itemgetter(0, 2))
    ]


def pack_rows(
    job: JobKey, *, chunk_no: int, decided_at: datetime, rows: ResultRows, contacts: Contacts
) -> memoryview:
    """Encode the rows in the binary format of COPY, in order of item and field.

    Raises struct.error for a number that does not fit its column.
    """
    microseconds = (decided_at - _EPOCH) // _MICROSECOND
    begin = _BEGIN(
        len(STORED_COLUMNS), 8, job.account_id, 8, job.job_id, 4, chunk_no, 8, microseconds
    )
    packed: list[tuple[int, int, bytes]] = []
    for kind, of_kind in rows.items():
        end = b"".join(map(encode_text, kind))
        has_contact = contacts is not None or kind.cause is Cause.PROPAGATED
        packed += _pack_kind(begin, end, of_kind, contacts or {}, has_contact=has_contact)
    # In the order of the index, since rows in another order would leave its pages half empty.
    packed.sort()
    return memoryview(b"".join([HEADER, *(row for _, _, row in packed), TRAILER]))


def _pack_kind(
    begin: bytes,
    end: bytes,
    rows: Sequence[ResultRow],
    contacts: Mapping[int, int],
    *,
    has_contact: bool,
) -> Iterator[tuple[int, int, bytes]]:
    """Yield item, field and bytes of each row of one kind; -1 is the length of a NULL."""
    plain = struct.Struct(f">{len(begin)}siqiqihiq{len(end)}si").pack
    propagated = struct.Struct(f">{len(begin)}siqiqihiq{len(end)}siq").pack
    without_contact = struct.Struct(f">{len(begin)}siqiihiq{len(end)}si").pack
    without_address = struct.Struct(f">{len(begin)}siqiihi{len(end)}si").pack
    for item, field, address, source in rows:
        if address is None:
            row = without_address(begin, 8, item, -1, 2, field, -1, end, -1)
        elif not has_contact:
            row = without_contact(begin, 8, item, -1, 2, field, 8, address, end, -1)
        else:
            contact = contacts.get(item, item) if contacts else item
            if source is None:
                row = plain(begin, 8, item, 8, contact, 2, field, 8, address, end, -1)
            else:
                row = propagated(begin, 8, item, 8, contact, 2, field, 8, address, end, 8, source)
        yield item, field, row
