"""Result rows as they are sent: few as arrays, many in the binary format of COPY.

The driver encodes rows of any table value by value, which was the largest part of what a chunk
costs in Python. Here most of a row is known beforehand: all rows of a chunk begin alike, and those
of which the same was decided end alike.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import itemgetter
from typing import Any, TypeAlias

from db.binary_copy import HEADER, TRAILER, encode_text

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

ResultKind: TypeAlias = tuple[Any, Any, Any, Any, Any]
"""What many rows have in common: outcome, reason, from status, to status, cause; texts or None."""

Pair: TypeAlias = tuple[int, int, int | None, int | None]
"""What a row has of its own: contact, field, address, source address."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEGIN = struct.Struct(">hiqiiiq").pack


_PARAMETERS = (
    "contact_ids",
    "fields",
    "address_ids",
    "outcomes",
    "reasons",
    "from_statuses",
    "to_statuses",
    "causes",
    "source_ids",
)


def result_columns(rows: Mapping[ResultKind, Sequence[Pair]]) -> dict[str, Sequence[Any]]:
    """Turn the rows into arrays named as the statements expect; meant for a few rows."""
    few = sorted(
        ((*pair[:3], *ending, pair[3]) for ending, pairs in rows.items() for pair in pairs),
        key=itemgetter(0, 1),
    )
    return dict(zip(_PARAMETERS, zip(*few, strict=True) if few else repeat(()), strict=False))


def pack_rows(
    *,
    job_id: int,
    chunk_no: int,
    decided_at: datetime,
    rows: Mapping[ResultKind, Sequence[Pair]],
) -> memoryview:
    """Encode the rows in the binary format of COPY.

    Raises struct.error for a number that does not fit its column.
    """
    microseconds = (decided_at - _EPOCH) // _MICROSECOND
    begin = _BEGIN(len(RESULT_COLUMNS), 8, job_id, 4, chunk_no, 8, microseconds)
    made: list[tuple[int, int, bytes]] = []
    for ending, pairs in rows.items():
        made += _pack_alike(begin, b"".join(map(encode_text, ending)), pairs)
    # In the order of the index by which they are read: out of order they would split its pages in
    # the middle, and leave them half empty.
    made.sort()
    return memoryview(b"".join([HEADER, *(row for _, _, row in made), TRAILER]))


def _pack_alike(
    begin: bytes, end: bytes, pairs: Sequence[Pair]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (contact, field, row) of rows with the same beginning and end, each packed by
    one call.
    """
    plain = struct.Struct(f">{len(begin)}siqihiq{len(end)}si").pack
    spread = struct.Struct(f">{len(begin)}siqihiq{len(end)}siq").pack
    empty = struct.Struct(f">{len(begin)}siqihi{len(end)}si").pack
    for contact, field, address, source in pairs:
        if address is None:
            row = empty(begin, 8, contact, 2, field, -1, end, -1)
        elif source is None:
            row = plain(begin, 8, contact, 2, field, 8, address, end, -1)
        else:
            row = spread(begin, 8, contact, 2, field, 8, address, end, 8, source)
        yield contact, field, row
