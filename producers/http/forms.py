"""Bodies that an HTML form, an automation or a mail client sends, read as fields.

What a body is shows in itself: senders name no type, or another one, and a field that is missing in
one that is cut off is not a reason to lose the others. So nothing here is refused.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from producers.hook_fields import Field, fields_of
from schemas.json_input import read_pairs

MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")

_parameter = {
    name: re.compile(rf"""(?i)[;\s]{name}\s*=\s*(?:"([^"]*)"|([^;\s"]+))""").search
    for name in ("boundary", "charset", "name")
}
_dashes = re.compile(rb"\s*--([^\r\n]{1,200})").match
_pairs = re.compile(rb"[^&\r\n]+").finditer
_end_of_head = re.compile(rb"\r?\n\r?\n").search
_has_mark = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def fields_in(body: bytes, content_type: str = "") -> Iterator[Field]:
    """Yield the fields of a form, urlencoded or multipart, or of JSON, in their order.

    The content type only helps, with a boundary and with the charset of texts that are not UTF-8.
    """
    charset = _of(content_type, "charset")
    if body.startswith(_has_mark):
        body = body.decode("utf-16", "replace").encode()
    body = body.removeprefix(codecs.BOM_UTF8)
    if (boundary := _boundary(body, content_type)) is not None:
        return _multipart(body, boundary, charset)
    if body.lstrip()[:1] in {b"{", b"["}:
        try:
            return fields_of(read_pairs(body))
        except ValueError:
            pass
    return _urlencoded(body, charset)


def _boundary(body: bytes, content_type: str) -> bytes | None:
    named = _of(content_type, "boundary").encode("latin-1", "replace")
    if named and b"--" + named in body:
        return named
    begins = _dashes(body)
    is_form = begins and b"form-data" in body[:1000].lower()
    return begins[1].rstrip() if begins and is_form else None


def _of(header: str, parameter: str) -> str:
    found = _parameter[parameter](f" {header}")
    return (found[1] or found[2] or "").strip() if found else ""


def _urlencoded(body: bytes, charset: str) -> Iterator[Field]:
    for pair in _pairs(body):
        name, _, value = pair[0].partition(b"=")
        yield Field(
            _text(_decoded(name), charset),
            _text(_decoded(value), charset),
            blank_is_plus=True,
        )


def _decoded(part: bytes) -> bytes:
    part = part.replace(b"+", b" ")
    return unquote_to_bytes(part) if b"%" in part else part


def _multipart(body: bytes, boundary: bytes, charset: str) -> Iterator[Field]:
    """Files too, since the text of an address may be one; a last part may lack its end."""
    for part in re.split(rb"(?:\A\s*|\r?\n|\r)--" + re.escape(boundary), body):
        if (end := _end_of_head(part)) is not None:
            name = _of(_text(part[: end.start()], charset), "name")
            yield Field(name, _text(part[end.end() :], charset))


def _text(raw: bytes, charset: str) -> str:
    """The text in UTF-8, or the charset that the sender named. What is neither has half characters
    in place of its bytes, by which no address is taken for another.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode(charset or "utf-8")
    except (UnicodeError, LookupError, ValueError):
        return raw.decode(errors="surrogateescape")


def form_body(properties: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a form's body. Where none is required, it may be anything."""
    schema = {"properties": properties} | ({"type": "object"} if required else {})
    return {"required": required, "content": {each: {"schema": schema} for each in MEDIA_TYPES}}
