"""Bodies that an HTML form, an automation or a mail client sends, read as fields.

What a body is shows in itself: senders name no type, or another one, and a field that is missing in
one that is cut off is not a reason to lose the others. So nothing here is refused but what has more
fields than any form.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

from producers.field_names import meaning_of
from producers.hook_fields import Field, events_of, read_message, text_of, unfolded
from schemas.addresses import InvalidAddress, doubt_about, read_address
from schemas.errors import WrongInput

MEDIA_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")

_parameter = {
    name: re.compile(rf"""(?i)[;\s]{name}\s*=\s*(?:"([^"]*)"|([^;\s"]+))""").search
    for name in ("boundary", "charset", "name")
}
_dashes = re.compile(rb"\s*--([^\r\n]{1,200})").match
_pairs = re.compile(rb"[^&\r\n]+").finditer
_end_of_head = re.compile(rb"\r?\n\r?\n").search
_encoded_plus = re.compile(rb"(?i)%2b")
_MAX_ALONE = 1_000

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
        return unfolded(_bounded(_multipart(body, boundary, charset)))
    if (value := _json(body, charset)) is not None:
        return events_of(value)
    if b"=" not in body:
        # Perhaps the whole was encoded once more than it should be.
        decoded = unquote_to_bytes(body)
        if (value := _json(decoded, charset)) is not None:
            return events_of(value)
        if b"=" not in decoded:
            return _bounded(_lines(text_of(decoded, charset)))
        body = unquote_to_bytes(_encoded_plus.sub(b"%252B", body))
    return unfolded(_bounded(_urlencoded(body, charset)))


def _bounded(fields: Iterable[Field]) -> Iterator[Field]:
    for number, field in enumerate(fields):
        if number == MOST_FIELDS:
            raise WrongInput(
                f"The form has more than {MOST_FIELDS:,} fields. Nothing was stored. Send those of"
                " the recipient."
            )
        yield field


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
    named = (line.partition(":") for line in text.splitlines())
    fields = [Field(name, rest) for name, _, rest in named if rest and meaning_of(name)]
    if not fields and len(text) <= _MAX_ALONE:
        with suppress(InvalidAddress):
            alone = read_address(text)
            fields = [Field("email", alone.address)] if doubt_about(alone) is None else []
    yield from fields


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
        name, _, value = (text_of(_decoded(part), charset) for part in pair[0].partition(b"="))
        if not value and name[:1] in {"{", "["}:
            # JSON that was posted as a form.
            name, value = "", name
        yield Field(name, value, blank_is_plus=True)


def _decoded(part: bytes) -> bytes:
    part = part.replace(b"+", b" ")
    return unquote_to_bytes(part) if b"%" in part else part


def _multipart(body: bytes, boundary: bytes, charset: str) -> Iterator[Field]:
    """Files too, since the text of an address may be one; a last part may lack its end."""
    for part in re.split(rb"(?:\A\s*|\r?\n|\r)--" + re.escape(boundary), body):
        if (end := _end_of_head(part)) is not None:
            name = _of(text_of(part[: end.start()], charset), "name")
            yield Field(name, text_of(part[end.end() :], charset))


def form_body(properties: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """The OpenAPI description of a form's body. Where none is required, it may be anything."""
    schema = {"properties": properties} | ({"type": "object"} if required else {})
    return {"required": required, "content": {each: {"schema": schema} for each in MEDIA_TYPES}}
