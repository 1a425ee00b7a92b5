"""Encode values in the binary format of COPY, faster than the driver does it one by one."""

import struct
from collections.abc import Sequence

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

# Each value follows its length in bytes; NULL is the length -1 without a value.
NULL = struct.pack(">i", -1)
_length = struct.Struct(">i").pack
_LENGTHS = [_length(n) for n in range(512)]
_TEXT_OID = 25
_ARRAY_HEADER = struct.Struct(">iiiii").pack
"""One dimension, which may contain NULL; the type, the number of elements and the first index."""

_EMPTY_ARRAY = struct.pack(">iiii", 12, 0, 0, _TEXT_OID)
_THREE_ELEMENTS = _ARRAY_HEADER(1, 1, _TEXT_OID, 3, 1)


def encode_text(value: str | None) -> bytes:
    """Encode a text, or a member of an enum by its name; None becomes NULL."""
    if value is None:
        return NULL
    encoded = value.encode()
    size = len(encoded)
    return (_LENGTHS[size] if size < len(_LENGTHS) else _length(size)) + encoded


def encode_three_texts(first: str | None, second: str | None, third: str | None) -> bytes:
    """Encode an array of three texts, a fifth faster than `encode_texts`."""
    elements = encode_text(first) + encode_text(second) + encode_text(third)
    return _length(len(_THREE_ELEMENTS) + len(elements)) + _THREE_ELEMENTS + elements


def encode_texts(values: Sequence[str]) -> bytes:
    """Encode an array of texts."""
    if not values:
        return _EMPTY_ARRAY
    elements = b"".join(map(encode_text, values))
    header = _ARRAY_HEADER(1, 1, _TEXT_OID, len(values), 1)
    return _length(len(header) + len(elements)) + header + elements
