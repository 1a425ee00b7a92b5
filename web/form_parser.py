"""Bodies of HTML forms, automations and mail clients, parsed into fields.

The body itself shows its type: senders name none, or a wrong one. A cut-off body still gives the
fields that it has. Only a body with more fields than any form is rejected.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from producers.field_names import field_meaning
from producers.hook_json import (
    Field,
    decode_text,
    expand_json_fields,
    iterate_events,
    read_body,
)
from schemas.addresses import InvalidAddress, find_correction, parse_address
from schemas.errors import InvalidRequest

T = TypeVar("T")

_parameter = {
    name: re.compile(rf"""(?i)[;\s]{name}\s*=\s*(?:"([^"]*)"|([^;\s"]+))""").search
    for name in ("boundary", "charset", "name")
}
_MAX_BOUNDARY = 200
_dashes = re.compile(rb"\s*--([^\r\n]{1,%d})" % _MAX_BOUNDARY).match
_pairs = re.compile(rb"[^&\r\n]+").finditer
_text_lines = re.compile("[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+").finditer
_end_of_head = re.compile(rb"\r?\n\r?\n").search
_encoded_plus = re.compile(rb"(?i)%2b")
_begins_like_json = re.compile(rb"(?i)(?:[\s+\0]|%(?:0[09a-d]|1[c-f]|20))*(?:[\[{]|%[57]b)").match
_broken_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MAX_BARE_ADDRESS = 1_000

_MAX_PLAIN_BYTES = 64 * 1024
"""How much of a value that is not JSON is decoded: more than any address has, however encoded."""

_MAX_BYTES_BEFORE_JSON = 1_000
"""How many blanks may precede JSON in a form. Each takes 100 bytes of memory."""

_DECODE_BATCH_BYTES = 64 * 1024
_MAX_PART_HEADER_BYTES = 16 * 1024
_MAX_LINES = 50_000
"""How many lines of a text are read: 4 MB of what people write have fewer."""

MAX_FIELDS = 10_000
"""A form that a person has filled in has fewer fields, and each takes time."""
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_fields(body: bytes, content_type: str = "") -> Iterator[Field]:
    """Yield the fields of a form (urlencoded or multipart), of JSON, or of a text with an address.

    JSON in a field is parsed too. The content type only helps with a boundary, and with the charset
    of texts that are not UTF-8. Raise InvalidRequest for more than `MAX_FIELDS` fields.
    """
    charset = get_charset(content_type)
    if body.startswith(_UTF_16_MARKS):
        body = body.decode("utf-16", "replace").encode()
    body = body.removeprefix(codecs.BOM_UTF8)
    if (boundary := _find_boundary(body, content_type)) is not None:
        return expand_json_fields(_parse_multipart(body, boundary, charset))
    if (value := _try_json(body, charset)) is not None:
        return iterate_events(value)
    if b"=" not in body:
        # The whole body may have been encoded twice.
        decoded = percent_decode(body)
        if (value := _try_json(decoded, charset)) is not None:
            return iterate_events(value)
        if b"=" not in decoded:
            return _limit_fields(_parse_lines(decode_text(decoded, charset)))
        body = percent_decode(_encoded_plus.sub(b"%252B", body))
    return expand_json_fields(_parse_urlencoded(body, charset))


def _limit_fields(parts: Iterable[T]) -> Iterator[T]:
    for number, part in enumerate(parts):
        if number == MAX_FIELDS:
            raise InvalidRequest(
                f"The form has more than {MAX_FIELDS:,} fields. Nothing was stored. Send only"
                " those of the recipient."
            )
        yield part


def percent_decode(quoted: bytes) -> bytes:
    """Decode like `urllib.parse.unquote_to_bytes`, which makes an object of each escape."""
    if b"%" not in quoted:
        return quoted
    decoded = bytearray()
    begin = 0
    while begin < len(quoted):
        end = begin + _DECODE_BATCH_BYTES
        # Not in the middle of an escape.
        if end < len(quoted) and (cut := quoted.rfind(b"%", end - 2, end)) > 0:
            end = cut
        part = quoted[begin:end]
        begin = end
        try:
            decoded += _decode_escapes(part)
        except UnicodeDecodeError:
            for _ in range(2):
                # Quickly, where there are many in a row.
                part = part.replace(b"%%", b"%25%")
            decoded += _decode_escapes(_broken_escape.sub(b"%25", part))
    return bytes(decoded)


def _decode_escapes(part: bytes) -> bytes:
    r"""Decode each %41 like Python's \x41; raise UnicodeDecodeError if one is broken."""
    escaped = part.replace(b"\\", b"\\\\").replace(b"%", b"\\x")
    return escaped.decode("unicode_escape").encode("latin-1")


def get_charset(content_type: str) -> str:
    """Return the charset that the content type names; empty if it names none."""
    return _get_parameter(content_type, "charset")


def _try_json(body: bytes, charset: str) -> Any:
    if body.lstrip(b"\0 \t\r\n")[:1] not in {b"{", b"["}:
        return None
    try:
        return read_body(body, charset)
    except ValueError:
        return None


def _parse_lines(text: str) -> Iterator[Field]:
    """Yield the fields of lines such as `Email: ada@...`, or an address that is the whole text."""
    has_field = False
    for line in islice(_text_lines(text), _MAX_LINES):
        name, _, rest = line[0].partition(":")
        if rest and field_meaning(name):
            has_field = True
            yield Field(name, rest)
    if not has_field and len(text) <= _MAX_BARE_ADDRESS:
        with suppress(InvalidAddress):
            alone = parse_address(text)
            if find_correction(alone) is None:
                yield Field("email", alone.address)


def _find_boundary(body: bytes, content_type: str) -> bytes | None:
    named = _get_parameter(content_type, "boundary").encode("latin-1", "replace")
    if 0 < len(named) <= _MAX_BOUNDARY and b"--" + named in body:
        return named
    begins = _dashes(body)
    is_form = begins and b"form-data" in body[:1000].lower()
    return begins[1].rstrip() if begins and is_form else None


def _get_parameter(header: str, parameter: str) -> str:
    found = _parameter[parameter](f" {header}")
    return (found[1] or found[2] or "").strip() if found else ""


def _parse_urlencoded(body: bytes, charset: str) -> Iterator[Field]:
    for pair in _limit_fields(_pairs(body)):
        name, _, value = (decode_text(_decode(part), charset) for part in pair[0].partition(b"="))
        if not value and name[:1] in {"{", "["}:
            # JSON that was posted as a form.
            name, value = "", name
        yield Field(name, value, blank_is_plus=True)


def _decode(part: bytes) -> bytes:
    if len(part) > _MAX_PLAIN_BYTES and not _begins_like_json(part[:_MAX_BYTES_BEFORE_JSON]):
        part = part[:_MAX_PLAIN_BYTES]
    return percent_decode(part.replace(b"+", b" "))


def _parse_multipart(body: bytes, boundary: bytes, charset: str) -> Iterator[Field]:
    """Yield the fields of all parts, also of files; the last part may be cut off."""
    for part in _limit_fields(_split_parts(body, boundary)):
        if (end := _end_of_head(part, 0, _MAX_PART_HEADER_BYTES)) is not None:
            head = decode_text(part[: end.start()], charset)
            yield Field(_get_parameter(head, "name"), decode_text(part[end.end() :], charset))


def _split_parts(body: bytes, boundary: bytes) -> Iterator[bytes]:
    begin = 0
    # Searching for the boundary without the preceding line break takes a tenth of the time.
    for number, found in enumerate(re.finditer(b"--" + re.escape(boundary), body)):
        end = found.start()
        if body[end - 1 : end] == b"\n":
            end -= 2 if body[end - 2 : end - 1] == b"\r" else 1
        elif body[end - 1 : end] == b"\r":
            end -= 1
        elif number or body[:end].strip():
            continue
        yield body[begin : max(begin, end)]
        begin = found.end()
    yield body[begin:]
