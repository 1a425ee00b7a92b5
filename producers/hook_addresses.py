"""Read the addresses in the text of a hook's field, as people and programs write them.

`Ada <ada@x.example>`, `mailto:ada@x.example`, several addresses with commas, quotes around one, or
a doubly encoded `%40`: all of these are read. A domain is never guessed. If a text may be one of
several addresses, the account decides which.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
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
"""The fields of one recipient have fewer; each takes time to read."""

_MAX_RAW = 10 * _MAX_TEXT
"""The limit before invisible characters are removed and the text is decoded."""

_TOO_LONG = "It is longer than a few addresses."

_MAX_READINGS = 8
"""How many words before an @-sign are tried as the beginning of the address."""

_LOST = "\udcfd"
"""Stands for a lost character, like bytes that are not text (see `decode_text`)."""

_is_lost = re.compile("[\udc80-\udcff]").search

_REPLACED: dict[int, str | None] = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_REPLACED |= {0xFFFD: _LOST, 0xA0: " "}
"""Invisible characters are removed, U+FFFD becomes `_LOST`, a no-break space a blank."""

_JUNK = " \t\0'\"`<>()[]{},;:|="
"""Characters around an address that are not part of it."""

_QUOTES = "'`"
"""Characters of `_JUNK` that may also surround the local part alone."""

_MAX_MARKS = 30
"""Combining marks on one character; more would take seconds to normalize."""

_beyond_latin = re.compile(f"[\u0300-\U0010ffff]{{{_MAX_MARKS + 1},}}").finditer

_in_brackets = re.compile(r"<([^<>]*)>").findall
_pieces = re.compile(r"[,;|\t\r\n]+").split
_comment = re.compile(r"\([^()@]*\)")
_encoded = re.compile(r"%[0-9A-Fa-f]{2}")
_is_quoted = re.compile(r'"[^"]*"@[^\s"<>]+').fullmatch


class AddressCandidate(NamedTuple):
    """An address in a text, with all its possible readings.

    It is the first of `readings` that a contact of the account holds, or else the first that the
    account knows, or else the `default`.
    """

    default: NormalizedAddress
    readings: tuple[NormalizedAddress, ...]


def resolve_candidates(
    candidates: Sequence[AddressCandidate], known: Mapping[str, bool] | None = None
) -> list[NormalizedAddress]:
    """Return the address of each candidate, in an account with the `known` match keys.

    `known` says of each key whether a contact holds it. Without a contact, an address may be known
    only because of an earlier reading. So the chosen addresses count as known for the others, as
    they will when the request comes again: the same request is then read in the same way.
    """
    known = known or {}
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
    """The addresses of a text. `adjustment` explains an unusual reading.

    `is_whole` if everything that looks like an address is valid.
    """

    candidates: list[AddressCandidate]
    adjustment: str | None = None
    is_whole: bool = True


def parse_addresses(text: str, *, blank_is_plus: bool = False) -> ParsedAddresses:
    """Return the addresses in the text; raises InvalidAddress if there is none.

    A blank in a local part is an unencoded plus sign, or the end of a name before the address. If
    the account knows no reading, it is a name; but with `blank_is_plus` only if a second blank and
    a capital show that.
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
    # `4711|ada@...` as written is an address too, if the account has it.
    as_written = _normalize_valid([text])
    found: list[AddressCandidate] = []
    why: InvalidAddress | None = None
    adjustment: str | None = None
    for text_of_one in _split_candidates(text):
        local, _, domain = _strip_around(text_of_one).rpartition("@")
        try:
            _require_whole(local + domain)
            default, readings = _read_local_part(local, domain, blank_is_plus=blank_is_plus)
        except InvalidAddress as error:
            why = why or error
            continue
        if " " in local:
            adjustment = _BLANK_READ
        if (correction := find_correction(default)) is not None:
            adjustment = adjustment or _DOUBTED
            readings = [*readings, correction.intended]
            default = correction.intended if correction.is_certain else default
        found.append(AddressCandidate(default, tuple(dict.fromkeys([*as_written, *readings]))))
    if not found:
        raise why or InvalidAddress("It has no @-sign.")
    return ParsedAddresses(found, adjustment, is_whole=why is None)


def _tidy(text: str) -> str:
    if len(text) > _MAX_RAW:
        raise InvalidAddress(_TOO_LONG)
    text = text.translate(_REPLACED).strip()
    # Normalization sorts combining marks one by one; some thousands take seconds.
    return text if _has_many_marks(text) else unicodedata.normalize("NFC", text)


def _has_many_marks(text: str) -> bool:
    """Return whether a character has more marks than any language needs (Unicode annex 15)."""
    for run in _beyond_latin(text):
        marks = 0
        for character in run.group():
            marks = marks + 1 if unicodedata.combining(character) else 0
            if marks > _MAX_MARKS:
                return True
    return False


_BLANK_READ = "a blank before its @-sign was read as a plus sign, or as the end of a name"
_DOUBTED = "it has characters that may be no part of it"
"""Neither reveals what the account knows."""


def _read_local_part(
    local: str, domain: str, *, blank_is_plus: bool
) -> tuple[NormalizedAddress, list[NormalizedAddress]]:
    """Return the default address, and all readings, the longest first."""
    words = local.split(" ")
    if len(words) == 1:
        normalized = normalize_address(f"{local}@{domain}")
        return normalized, [normalized]
    before = local.rpartition(" ")[0]
    # `Ada Lovelace ada@...` has a name before the address that is meant.
    is_name = not blank_is_plus or (" " in before and before != before.lower())
    default = normalize_address(f"{words[-1] if is_name else '+'.join(words)}@{domain}")
    starts = [0, *range(1, len(words))[1 - _MAX_READINGS :]]
    texts = (f"{'+'.join(words[start:])}@{domain}" for start in starts if words[start])
    return default, _normalize_valid(texts)


def _require_whole(text: str) -> None:
    """Raise InvalidAddress if a character was lost: the address would be another one."""
    if _is_lost(text):
        raise InvalidAddress("It has bytes that are not text in UTF-8; name the charset.")


def _normalize_valid(texts: Iterable[str]) -> list[NormalizedAddress]:
    found: list[NormalizedAddress] = []
    for text in texts:
        with suppress(InvalidAddress):
            found.append(normalize_address(text))
    return found


def _split_candidates(text: str) -> Iterator[str]:
    """Yield texts with one @ each, before the characters around the address are removed."""
    bracketed = [part for part in _in_brackets(text) if "@" in part]
    for piece in bracketed or _pieces(_comment.sub(" ", text)):
        yield from _split_at_signs(piece)


def _split_at_signs(piece: str) -> Iterator[str]:
    """Yield the text before each @-sign, and after it up to the next one or to a blank."""
    before, *parts = piece.split("@")
    for part in parts:
        domain, blank, rest = part.partition(" ")
        yield f"{before}@{domain}"
        before = blank + rest


def _strip_around(text: str) -> str:
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
