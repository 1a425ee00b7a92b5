"""Reading the addresses in the text of a hook's field, as people and programs write them.

`Ada <ada@x.example>`, `mailto:ada@x.example`, several with commas between them, quotes around one,
or `%40` that was encoded twice: none of it matters for an opt-out. What remains is one address or
is refused; nothing is guessed of a domain.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

from producers.field_names import Meaning, meaning_of
from schemas.addresses import InvalidAddress, identify

_MAX_TEXT = 5_000
_MAX_CANDIDATES = 50
"""More than this is not the text of one person's field, and each costs time."""

_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
"""Characters that no one sees, which come along when an address is copied."""

_JUNK = " \t\0'\"`<>()[]{},;:|="
"""What stands around an address and is no part of it."""

_QUOTES = "'`"
"""Of that, what stands around a local part alone."""

_in_brackets = re.compile(r"<([^<>]*)>").findall
_pieces = re.compile(r"[,;|\t\r\n]+").split
_each = re.compile(r"[^@]*@[^@ ]*").findall
_comment = re.compile(r"\([^()@]*\)")
_encoded = re.compile(r"%[0-9A-Fa-f]{2}")
_is_quoted = re.compile(r'"[^"]*"@[^\s"<>]+').fullmatch


class AddressesRead(NamedTuple):
    """The addresses of a text. `blank_read` tells that a blank was read as a plus sign, and
    `is_whole` that all that looks like an address is one.
    """

    addresses: list[str]
    blank_read: bool = False
    is_whole: bool = True


def addresses_in(text: str, *, blank_is_plus: bool = False) -> AddressesRead:
    """Return the addresses that the text names; raises InvalidAddress where there is none.

    With `blank_is_plus` one blank in a local part, where none can be, is a plus sign that came
    unencoded; so are more of them, unless capitals show that a name stands before the address.
    """
    text = unicodedata.normalize("NFC", text.translate(_UNSEEN).replace("\xa0", " ")).strip()
    if "@" not in text and "%40" in text and _is_text(text):
        text = unquote(text)
    if len(text) > _MAX_TEXT or text.count("@") > _MAX_CANDIDATES:
        raise InvalidAddress("It is longer than a few addresses.")
    if _is_quoted(text):
        return AddressesRead([identify(text).address])
    found: list[str] = []
    why: InvalidAddress | None = None
    blank_read = False
    for candidate in _candidates(text):
        local, _, domain = _bare(candidate).rpartition("@")
        if blank_is_plus and " " in local:
            blank_read = True
            before, _, last = local.rpartition(" ")
            # `Ada Lovelace ada@...` has a name before the address that is meant.
            is_name = " " in before and before != before.lower()
            local = last if is_name else local.replace(" ", "+")
        try:
            found.append(identify(f"{local}@{domain}").address)
        except InvalidAddress as error:
            why = why or error
    if not found:
        raise why or InvalidAddress("It has no @-sign.")
    return AddressesRead(found, blank_read, is_whole=why is None)


def _candidates(text: str) -> Iterator[str]:
    """Texts with one @ each, and with what stands around an address still on them."""
    bracketed = [part for part in _in_brackets(text) if "@" in part]
    for piece in bracketed or _pieces(_comment.sub(" ", text)):
        yield from _each(piece)


def _bare(text: str) -> str:
    """The text without what may stand around an address."""
    text = text.strip(_JUNK)
    name, equals, rest = text.partition("=")
    if equals and meaning_of(name) is Meaning.ADDRESS:
        text = rest
    if text[:7].lower() == "mailto:":
        text = text[7:]
    if _encoded.search(text) and _is_text(text):
        text = unquote(text)
    local, at, domain = text.strip(_JUNK).rpartition("@")
    return f"{local.strip(_QUOTES)}{at}{domain.partition('?')[0].rstrip(_JUNK + '.+!/')}"


def _is_text(encoded: str) -> bool:
    try:
        decoded = unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        return False
    return decoded.isprintable()
