"""Result rows in the binary format of COPY.

The driver encodes rows of any table value by value, which was the largest part of what a chunk
costs in Python. Here most of a row is known beforehand: all rows of a chunk begin alike, and what
was decided, at their end, repeats.
"""

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

RESULT_COLUMNS = (
    "job_id",
    "chunk_no",
    "decided_at",
    "contact_id",
    "field",
    "address_id",
    "outcome",
    "reason",
    "from_status",
    "to_status",
    "cause",
    "source_address_id",
)

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Each value comes after its length in bytes; NULL is a length of -1 and no value.
_NULL = struct.pack(">i", -1)
_BEGIN = struct.Struct(">hiqiiiq").pack
_ADDRESS = struct.Struct(">iqihiq").pack
_NO_ADDRESS = struct.Struct(">iqihi").pack
_ID = struct.Struct(">iq").pack


def packed(
    *, job_id: int, chunk_no: int, decided_at: datetime, rows: Iterable[Sequence[Any]]
) -> memoryview:
    """The rows (the columns from `contact_id` on) as COPY takes them.

    Raises struct.error for a number that its column has no room for.
    """
    microseconds = (decided_at - _EPOCH) // _MICROSECOND
    begin = _BEGIN(len(RESULT_COLUMNS), 8, job_id, 4, chunk_no, 8, microseconds)
    ends: dict[tuple[str | None, ...], bytes] = {}
    parts = [_HEADER]
    add = parts.append
    for contact, field, address, outcome, reason, before, after, cause, source in rows:
        decided = (outcome, reason, before, after, cause)
        end = ends.get(decided)
        if end is None:
            end = ends[decided] = b"".join(map(_text, decided))
        if address is None:
            middle = _NO_ADDRESS(8, contact, 2, field, -1)
        else:
            middle = _ADDRESS(8, contact, 2, field, 8, address)
        add(begin + middle + end + (_NULL if source is None else _ID(8, source)))
    add(_TRAILER)
    return memoryview(b"".join(parts))


def _text(value: str | None) -> bytes:
    """A text, or the member of an enum, which is sent by its name."""
    if value is None:
        return _NULL
    encoded = value.encode()
    return struct.pack(">i", len(encoded)) + encoded
