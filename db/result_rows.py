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
from schemas.job_key import JobKey
from schemas.outcomes import Cause

RESULT_COLUMNS = (
    "account_id",
    "job_id",
    "chunk_no",
    "decided_at",
    "item_id",
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
"""What a row has of its own: item, field, address, source address."""

Contacts: TypeAlias = Mapping[int, int] | None
"""The contacts of items that have another id than theirs; None where items are no contacts."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEGIN = struct.Struct(">hiqiqiiiq").pack


_PARAMETERS = (
    "item_ids",
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


def contact_of(
    item: int, ending: ResultKind, address: int | None, contacts: Contacts
) -> int | None:
    """Return the contact that a result is about, or None where there is none.

    A listed address has none, but what was propagated from it has; and there is none where the
    result says that there is none, or that an import row became none.
    """
    cause = ending[4]
    if cause != Cause.PROPAGATED and (contacts is None or address is None):
        return None
    return contacts.get(item, item) if contacts else item


def result_columns(
    rows: Mapping[ResultKind, Sequence[Pair]], contacts: Contacts
) -> dict[str, Sequence[Any]]:
    """Turn the rows into arrays named as the statements expect; meant for a few rows."""
    few = sorted(
        (
            (item, contact_of(item, ending, address, contacts), field, address, *ending, source)
            for ending, pairs in rows.items()
            for item, field, address, source in pairs
        ),
        key=itemgetter(0, 2),
    )
    return dict(zip(_PARAMETERS, zip(*few, strict=True) if few else repeat(()), strict=False))


def pack_rows(
    job: JobKey,
    *,
    chunk_no: int,
    decided_at: datetime,
    rows: Mapping[ResultKind, Sequence[Pair]],
    contacts: Contacts,
) -> memoryview:
    """Encode the rows in the binary format of COPY.

    Raises struct.error for a number that does not fit its column.
    """
    microseconds = (decided_at - _EPOCH) // _MICROSECOND
    begin = _BEGIN(
        len(RESULT_COLUMNS), 8, job.account_id, 8, job.job_id, 4, chunk_no, 8, microseconds
    )
    made: list[tuple[int, int, bytes]] = []
    for ending, pairs in rows.items():
        end = b"".join(map(encode_text, ending))
        if contacts is None and ending[4] != Cause.PROPAGATED:
            made += _packed_without_contact(begin, end, pairs)
        else:
            made += _pack_alike(begin, end, pairs, contacts or {})
    # In the order of the index by which they are read: out of order they would split its pages in
    # the middle, and leave them half empty.
    made.sort()
    return memoryview(b"".join([HEADER, *(row for _, _, row in made), TRAILER]))


def _pack_alike(
    begin: bytes, end: bytes, pairs: Sequence[Pair], contacts: Mapping[int, int]
) -> Iterator[tuple[int, int, bytes]]:
    """(item, field, row) of rows that begin and end alike, each row packed by a single call."""
    plain = struct.Struct(f">{len(begin)}siqiqihiq{len(end)}si").pack
    propagated = struct.Struct(f">{len(begin)}siqiqihiq{len(end)}siq").pack
    missing = struct.Struct(f">{len(begin)}siqiihi{len(end)}si").pack
    for item, field, address, source in pairs:
        if address is None:
            row = missing(begin, 8, item, -1, 2, field, -1, end, -1)
        else:
            contact = contacts.get(item, item) if contacts else item
            if source is None:
                row = plain(begin, 8, item, 8, contact, 2, field, 8, address, end, -1)
            else:
                row = propagated(begin, 8, item, 8, contact, 2, field, 8, address, end, 8, source)
        yield item, field, row


def _packed_without_contact(
    begin: bytes, end: bytes, pairs: Sequence[Pair]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield the same for the direct rows of listed addresses."""
    known = struct.Struct(f">{len(begin)}siqiihiq{len(end)}si").pack
    unknown = struct.Struct(f">{len(begin)}siqiihi{len(end)}si").pack
    for item, field, address, _ in pairs:
        if address is None:
            row = unknown(begin, 8, item, -1, 2, field, -1, end, -1)
        else:
            row = known(begin, 8, item, -1, 2, field, 8, address, end, -1)
        yield item, field, row
