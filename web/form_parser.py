"""Bodies that an HTML form, an automation or a mail client sends, read as fields.

What a body is shows in itself: senders name no type, or another one, and a field that is missing in
one that is cut off is not a reason to lose the others. So nothing here is refused but what has more
fields than any form.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from producers.field_names import meaning_of
from producers.hook_fields import Field, events_of, read_message, text_of, unfolded
from schemas.addresses import InvalidAddress, doubt_about, read_address
from schemas.errors import WrongInput

T = TypeVar("T")

MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")

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
_MAX_ALONE = 1_000

_MAX_PLAIN = 64 * 1024
"""What is longer and not JSON has more characters than the text of an address may have, however it
is encoded. No more of it is decoded."""

_MAX_BEFORE_JSON = 1_000
"""So far JSON in a form is looked for behind blanks. Each takes 100 bytes of memory."""

_DECODED_AT_ONCE = 64 * 1024
_MAX_HEAD_OF_PART = 16 * 1024
_MOST_LINES = 50_000
"""No line of a text is looked at beyond these: 4 MB of what people write have fewer."""

MOST_FIELDS = 10_000
"""More fields are no form that a person has filled in, and each takes time."""
_has_mark = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def fields_in(body: bytes, content_type: str = "") -> Iterator[Field]:
    """Yield the fields of a form, urlencoded or multipart, or of JSON, in their order; or of a
    text that is an address alone. JSON in a field is read too.

    The content type only helps, with a boundary and with the charset of texts that are not UTF-8.
    Raises WrongInput where there are more than `MOST_FIELDS`.
    """
    charset = charset_of(content_type)
    if body.startswith(_has_mark):
        body = body.decode("utf-16", "replace").encode()
    body = body.removeprefix(codecs.BOM_UTF8)
    if (boundary := _boundary(body, content_type)) is not None:
        return unfolded(_multipart(body, boundary, charset))
    if (value := _json(body, charset)) is not None:
        return events_of(value)
    if b"=" not in body:
        # Perhaps the whole was encoded once more than it should be.
        decoded = unquoted(body)
        if (value := _json(decoded, charset)) is not None:
            return events_of(value)
        if b"=" not in decoded:
            return _bounded(_lines(text_of(decoded, charset)))
        body = unquoted(_encoded_plus.sub(b"%252B", body))
    return unfolded(_urlencoded(body, charset))


def _bounded(parts: Iterable[T]) -> Iterator[T]:
    for number, part in enumerate(parts):
        if number == MOST_FIELDS:
            raise WrongInput(
                f"The form has more than {MOST_FIELDS:,} fields. Nothing was stored. Send those of"
                " the recipient."
            )
        yield part


def unquoted(quoted: bytes) -> bytes:
    """Return what `urllib.parse.unquote_to_bytes` does, which makes an object of each escape."""
    if b"%" not in quoted:
        return quoted
    decoded = bytearray()
    begin = 0
    while begin < len(quoted):
        end = begin + _DECODED_AT_ONCE
        # Not in the middle of an escape.
        if end < len(quoted) and (cut := quoted.rfind(b"%", end - 2, end)) > 0:
            end = cut
        part = quoted[begin:end]
        begin = end
        try:
            decoded += _unescaped(part)
        except UnicodeDecodeError:
            for _ in range(2):
                # Quickly, where there are many in a row.
                part = part.replace(b"%%", b"%25%")
            decoded += _unescaped(_broken_escape.sub(b"%25", part))
    return bytes(decoded)


def _unescaped(part: bytes) -> bytes:
    r"""Return the bytes with each %41 decoded, by Python's own way to read \x41; raises
    UnicodeDecodeError where one is broken.
    """
    escaped = part.replace(b"\\", b"\\\\").replace(b"%", b"\\x")
    return escaped.decode("unicode_escape").encode("latin-1")


def charset_of(content_type: str) -> str:
    """Return the charset that the type names, empty where it names none."""
    return _of(content_type, "charset")


def _json(body: bytes, charset: str) -> Any:
    if body.lstrip(b"\0 \t\r\n")[:1] not in {b"{", b"["}:
        return None
    try:
        return read_message(body, charset)
    except ValueError:
        return None


def _lines(text: str) -> Iterator[Field]:
    """Yield what lines such as `Email: ada@...` say, or an address that is all there is."""
    has_field = False
    for line in islice(_text_lines(text), _MOST_LINES):
        name, _, rest = line[0].partition(":")
        if rest and meaning_of(name):
            has_field = True
            yield Field(name, rest)
    if not has_field and len(text) <= _MAX_ALONE:
        with suppress(InvalidAddress):
            alone = read_address(text)
            if doubt_about(alone) is None:
                yield Field("email", alone.address)


def _boundary(body: bytes, content_type: str) -> bytes | None:
    named = _of(content_type, "boundary").encode("latin-1", "replace")
    if 0 < len(named) <= _MAX_BOUNDARY and b"--" + named in body:
        return named
    begins = _dashes(body)
    is_form = begins and b"form-data" in body[:1000].lower()
    return begins[1].rstrip() if begins and is_form else None


def _of(header: str, parameter: str) -> str:
    found = _parameter[parameter](f" {header}")
    return (found[1] or found[2] or "").strip() if found else ""


def _urlencoded(body: bytes, charset: str) -> Iterator[Field]:
    for pair in _bounded(_pairs(body)):
        name, _, value = (text_of(_decoded(part), charset) for part in pair[0].partition(b"="))
        if not value and name[:1] in {"{", "["}:
            # JSON that was posted as a form.
            name, value = "", name
        yield Field(name, value, blank_is_plus=True)


def _decoded(part: bytes) -> bytes:
    if len(part) > _MAX_PLAIN and not _begins_like_json(part[:_MAX_BEFORE_JSON]):
        part = part[:_MAX_PLAIN]
    return unquoted(part.replace(b"+", b" "))


def _multipart(body: bytes, boundary: bytes, charset: str) -> Iterator[Field]:
    """Files too, since the text of an address may be one; a last part may lack its end."""
    for part in _bounded(_parts(body, boundary)):
        if (end := _end_of_head(part, 0, _MAX_HEAD_OF_PART)) is not None:
            head = text_of(part[: end.start()], charset)
            yield Field(_of(head, "name"), text_of(part[end.end() :], charset))


def _parts(body: bytes, boundary: bytes) -> Iterator[bytes]:
    begin = 0
    # Searched for without what stands before it, which takes a tenth of the time.
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


def form_body(properties: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a form's body. Where none is required, it may be anything."""
    schema = {"properties": properties} | ({"type": "object"} if required else {})
    return {"required": required, "content": {each: {"schema": schema} for each in MEDIA_TYPES}}
