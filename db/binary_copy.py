"""Values in the binary format of COPY, which the driver would encode one by one."""

import struct
from collections.abc import Sequence

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

# Each value comes after its length in bytes; NULL is a length of -1 and no value.
NULL = struct.pack(">i", -1)
_length = struct.Struct(">i").pack
_LENGTHS = [_length(n) for n in range(512)]
_TEXT_OID = 25
_ARRAY_BEGIN = struct.Struct(">iiiii").pack
_NO_ELEMENTS = struct.pack(">iiii", 12, 0, 0, _TEXT_OID)
_THREE_ELEMENTS = _ARRAY_BEGIN(1, 1, _TEXT_OID, 3, 1)
_MAY_HAVE_NULL = 1


def encode_text(value: str | None) -> bytes:
    """Return a text, or the member of an enum, which is sent by its name."""
    if value is None:
        return NULL
    encoded = value.encode()
    size = len(encoded)
    return (_LENGTHS[size] if size < len(_LENGTHS) else _length(size)) + encoded


def encode_three_texts(first: str | None, second: str | None, third: str | None) -> bytes:
    """Return an array of three texts."""
    elements = encode_text(first) + encode_text(second) + encode_text(third)
    return _length(len(_THREE_ELEMENTS) + len(elements)) + _THREE_ELEMENTS + elements


def encode_texts(values: Sequence[str]) -> bytes:
    """Return an array of texts."""
    if not values:
        return _NO_ELEMENTS
    elements = b"".join(map(encode_text, values))
    begin = _ARRAY_BEGIN(1, _MAY_HAVE_NULL, _TEXT_OID, len(values), 1)
    return _length(len(begin) + len(elements)) + begin + elements
