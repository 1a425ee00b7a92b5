"""Reading the addresses in the text of a hook's field, as people and programs write them.

`Ada <ada@x.example>`, `mailto:ada@x.example`, several with commas between them, quotes around one,
or `%40` that was encoded twice: none of it matters for an opt-out. What remains is an address or is
refused; nothing is guessed of a domain. Where it may be one of several addresses, the account tells
which is meant.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

from producers.field_names import Meaning, field_meaning
from schemas.addresses import (
    InvalidAddress,
    NormalizedAddress,
    find_correction,
    normalize_address,
    normalize_plain_address,
)

_MAX_TEXT = 5_000
_MAX_CANDIDATES = 50
"""More than this is not the text of one person's field, and each costs time."""

_MAX_RAW = 10 * _MAX_TEXT
"""With invisible characters, and encoded once more than it should be."""

_TOO_LONG = "It is longer than a few addresses."

_MAX_READINGS = 8
"""Words before an @-sign that are tried as the beginning of the address."""

_LOST = "\udcfd"
"""Stands for a character that was lost on the way, as bytes that are no text do (see
`decode_text`).
"""

_is_lost = re.compile("[\udc80-\udcff]").search

_REPLACED: dict[int, str | None] = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_REPLACED |= {0xFFFD: _LOST, 0xA0: " "}
"""Characters that no one sees, which come along when an address is copied; one that was lost; and
a blank."""

_JUNK = " \t\0'\"`<>()[]{},;:|="
"""What stands around an address and is no part of it."""

_QUOTES = "'`"
"""Of that, what stands around a local part alone."""

_MAX_MARKS = 30
_beyond_latin = re.compile(f"[\u0300-\U0010ffff]{{{_MAX_MARKS + 1},}}").finditer

_in_brackets = re.compile(r"<([^<>]*)>").findall
_pieces = re.compile(r"[,;|\t\r\n]+").split
_comment = re.compile(r"\([^()@]*\)")
_encoded = re.compile(r"%[0-9A-Fa-f]{2}")
_is_quoted = re.compile(r'"[^"]*"@[^\s"<>]+').fullmatch


_NOTHING_KNOWN: Mapping[str, bool] = MappingProxyType({})


class AddressCandidate(NamedTuple):
    """An address in a text, and what else it may be.

    It is the first of `readings` that a contact of the account holds, else the first that the
    account knows, and `default` where it knows none of them.
    """

    default: NormalizedAddress
    readings: tuple[NormalizedAddress, ...]


def resolve_candidates(
    candidates: Sequence[AddressCandidate], known: Mapping[str, bool] = _NOTHING_KNOWN
) -> list[NormalizedAddress]:
    """Return what each candidate is, for an account that knows the `known` keys, each with whether
    a contact holds it.

    An address that no contact holds may be known only because a message was once read so. What one
    of them is, is known to the others, as it will be when the message comes again: so that
    it is then read in the same way.
    """
    held = {key for key, is_held in known.items() if is_held}
    keys, before = set(known), None
    while True:
        chosen = [
            _first_known(readings, held) or _first_known(readings, keys) or default
            for default, readings in candidates
        ]
        if chosen == before:
            return list({each.match_key: each for each in chosen}.values())
        keys.update(each.match_key for each in chosen)
        before = chosen


def _first_known(
    readings: Iterable[NormalizedAddress], keys: Collection[str]
) -> NormalizedAddress | None:
    return next((each for each in readings if each.match_key in keys), None)


class ParsedAddresses(NamedTuple):
    """The addresses of a text. `told` says how they were read, where that is not plain, and
    `is_whole` that all that looks like an address is one.
    """

    candidates: list[AddressCandidate]
    told: str | None = None
    is_whole: bool = True

    @property
    def addresses(self) -> list[str]:
        """The addresses for an account that knows none of them."""
        return [each.default.address for each in self.candidates]


def parse_addresses(text: str, *, blank_is_plus: bool = False) -> ParsedAddresses:
    """Return the addresses that the text names; raises InvalidAddress where there is none.

    Blanks in a local part, where none can be, are plus signs that came unencoded, or a name stands
    before the address. Where the account knows none of what it may be, it is a name; but with
    `blank_is_plus` only a capital and a second blank show that.
    """
    text = _tidy(text)
    if (plain := normalize_plain_address(text)) is not None:
        return ParsedAddresses([AddressCandidate(plain, (plain,))])
    if "@" not in text and "%40" in text and _is_text(text):
        text = unquote(text)
    if len(text) > _MAX_TEXT or text.count("@") > _MAX_CANDIDATES:
        raise InvalidAddress(_TOO_LONG)
    if _is_quoted(text):
        quoted = normalize_address(text)
        return ParsedAddresses([AddressCandidate(quoted, (quoted,))])
    # `4711|ada@...` as it is written is an address too, if the account has it.
    as_written = _normalize_valid([text])
    found: list[AddressCandidate] = []
    why: InvalidAddress | None = None
    told: str | None = None
    for text_of_one in _split_candidates(text):
        local, _, domain = _strip_around(text_of_one).rpartition("@")
        try:
            _require_whole(local + domain)
            default, readings = _read_local_part(local, domain, blank_is_plus=blank_is_plus)
        except InvalidAddress as error:
            why = why or error
            continue
        if " " in local:
            told = _BLANK_READ
        if (doubt := find_correction(default)) is not None:
            told = told or _DOUBTED
            readings = [*readings, doubt.intended]
            default = doubt.intended if doubt.is_certain else default
        found.append(AddressCandidate(default, tuple(dict.fromkeys([*as_written, *readings]))))
    if not found:
        raise why or InvalidAddress("It has no @-sign.")
    return ParsedAddresses(found, told, is_whole=why is None)


def _tidy(text: str) -> str:
    if len(text) > _MAX_RAW:
        raise InvalidAddress(_TOO_LONG)
    text = text.translate(_REPLACED).strip()
    # Marks in any order are sorted one by one, which takes seconds of some thousands.
    return text if _has_many_marks(text) else unicodedata.normalize("NFC", text)


def _has_many_marks(text: str) -> bool:
    """Return whether a character has more marks on it than any language needs, by Unicode's annex
    15.
    """
    for run in _beyond_latin(text):
        marks = 0
        for character in run.group():
            marks = marks + 1 if unicodedata.combining(character) else 0
            if marks > _MAX_MARKS:
                return True
    return False


_BLANK_READ = "a blank before its @-sign was read as a plus sign, or as the end of a name"
_DOUBTED = "it has characters that may be no part of it"
"""Neither tells what the account knows."""


def _read_local_part(
    local: str, domain: str, *, blank_is_plus: bool
) -> tuple[NormalizedAddress, list[NormalizedAddress]]:
    """Return the address where nothing is known, and all that it may be, the longest first."""
    words = local.split(" ")
    if len(words) == 1:
        identity = normalize_address(f"{local}@{domain}")
        return identity, [identity]
    before = local.rpartition(" ")[0]
    # `Ada Lovelace ada@...` has a name before the address that is meant.
    is_name = not blank_is_plus or (" " in before and before != before.lower())
    default = normalize_address(f"{words[-1] if is_name else '+'.join(words)}@{domain}")
    starts = [0, *range(1, len(words))[1 - _MAX_READINGS :]]
    texts = (f"{'+'.join(words[start:])}@{domain}" for start in starts if words[start])
    return default, _normalize_valid(texts)


def _require_whole(text: str) -> None:
    """Raise InvalidAddress where a character was lost: the address would be another one."""
    if _is_lost(text):
        raise InvalidAddress("It has bytes that are not text in UTF-8; name the charset.")


def _normalize_valid(texts: Iterable[str]) -> list[NormalizedAddress]:
    found: list[NormalizedAddress] = []
    for text in texts:
        with suppress(InvalidAddress):
            found.append(normalize_address(text))
    return found


def _split_candidates(text: str) -> Iterator[str]:
    """Yield texts with one @ each, with what may surround an address still on them."""
    bracketed = [part for part in _in_brackets(text) if "@" in part]
    for piece in bracketed or _pieces(_comment.sub(" ", text)):
        yield from _split_at_signs(piece)


def _split_at_signs(piece: str) -> Iterator[str]:
    """Yield what stands before each @-sign, and behind it up to the next one or to a blank."""
    before, *parts = piece.split("@")
    for part in parts:
        domain, blank, rest = part.partition(" ")
        yield f"{before}@{domain}"
        before = blank + rest


def _strip_around(text: str) -> str:
    """Strip what may surround an address."""
    text = text.strip(_JUNK)
    name, equals, rest = text.partition("=")
    if equals and field_meaning(name) is Meaning.ADDRESS:
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
