"""Which texts are email addresses, and when two of them are the same.

The rules are those of the email-validator library. It takes 0.05 ms an address, minutes for a file
of millions. So a plain domain and a plain local part are checked by a few string operations, and
any other domain is put to the library once and remembered. A property test compares both ways.

These texts come from outside. So each pattern here takes time in proportion to the text, and gets
no text of more than `MAX_WRAPPED_LENGTH` characters.
"""

import re
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from email_validator import (
    SPECIAL_USE_DOMAIN_NAMES,
    EmailNotValidError,
    ValidatedEmail,
    validate_email,
)

MAX_ADDRESS_LENGTH = 254
"""The longest valid address, in bytes of UTF-8."""

MAX_WRAPPED_LENGTH = 1_000
"""The longest text that may contain an address, in characters."""

_MAX_PLAIN_LOCAL_PART = 64
_MAX_REASON = 200
_MAX_CACHED_DOMAINS = 1 << 16

_PLAIN = string.ascii_letters + string.digits + "_+-."
"""The characters of nearly all local parts."""

_ODD_STARTS = "+-."

_ATOM = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]+"
_plain_local_part = re.compile(rf"{_ATOM}(?:\.{_ATOM})*").fullmatch

# Two hyphens as third and fourth character mark Punycode, or an invalid label.
_LABEL = r"(?!..--)[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_plain_domain = re.compile(rf"{_LABEL}(?:\.{_LABEL})+(?<=[A-Za-z])").fullmatch
_SPECIAL_USE = tuple(f".{name}" for name in SPECIAL_USE_DOMAIN_NAMES)


class NormalizedAddress(NamedTuple):
    """An address as it was given, and the key under which an account knows it."""

    address: str
    match_key: str


_new_tuple = tuple.__new__
"""Make a NamedTuple in a third of the time of its own constructor."""


class InvalidAddress(ValueError):
    """The text is not an email address; the message says why."""


_TOO_LONG = f"An email address has at most {MAX_ADDRESS_LENGTH} characters."


class _Domain(NamedTuple):
    """A domain as the library sees it; `key` is its ASCII form after an @.

    An address with a plain local part longer than `max_local_part` fails with `error`.
    """

    key: str
    max_local_part: int
    error: str


def normalize_address(text: str) -> NormalizedAddress:
    """Normalize an address, ignoring white space around it.

    The match key is the casefolded local part and the ASCII domain. Dots and +tags are kept: they
    are the recipient's business. Raises InvalidAddress for anything else, including `Name
    <address>` and `mailto:`, which `parse_address` accepts.
    """
    address = text.strip()
    return normalize_plain_address(address) or _normalize_formally(address)


def normalize_plain_address(text: str) -> NormalizedAddress | None:
    """Normalize a plain address, as nearly all are; None for any other text."""
    local_part, _, domain = text.partition("@")
    if (
        len(text) > MAX_ADDRESS_LENGTH
        or local_part.strip(_PLAIN)
        or local_part[:1] in _ODD_STARTS  # also an empty local part
        or ".." in text
        or ".@" in text
    ):
        return None
    key, max_local_part, _ = _look_up_domain(domain)
    if len(local_part) > max_local_part or len(local_part) > _MAX_PLAIN_LOCAL_PART:
        return None
    return _new_tuple(NormalizedAddress, (text, local_part.lower() + key))


def _normalize_formally(address: str) -> NormalizedAddress:
    # The library would take time by the length, only to say the same.
    if len(address) > MAX_ADDRESS_LENGTH:
        raise InvalidAddress(_TOO_LONG)
    local_part, at, domain = address.partition("@")
    if not (at and len(local_part) <= _MAX_PLAIN_LOCAL_PART and _plain_local_part(local_part)):
        return _normalize_by_library(address)
    key, max_local_part, error = _look_up_domain(domain)
    if len(local_part) > max_local_part:
        raise InvalidAddress(error)
    return NormalizedAddress(address, local_part.lower() + key)


def parse_address(text: str) -> NormalizedAddress:
    """Normalize an address as people write it.

    What surrounds it and cannot be a part of it is left out: `mailto:`, a name before `<...>`,
    quotation marks, invisible characters, a final comma or full stop. Raises InvalidAddress, with a
    suggestion if the text has an address in it.
    """
    if len(text) > MAX_WRAPPED_LENGTH and len(text := _strip_around(text)) > MAX_WRAPPED_LENGTH:
        raise InvalidAddress(f"{_TOO_LONG}{_suggestion(text)}")
    if not text.isascii():
        text = text.strip(_AROUND)
    is_wrapped = _has_wrapping_around(text)
    if is_wrapped and (found := _unwrap(text)) is not None:
        return found
    try:
        return normalize_address(text)
    except InvalidAddress as error:
        if not is_wrapped and (found := _unwrap(text)) is not None:
            return found
        raise InvalidAddress(f"{error}{_suggestion(text)}") from None


def _has_wrapping_around(text: str) -> bool:
    """Return whether the text has characters that no address has outside quotation marks.

    The library need not be asked about the whole of it then, which would take most of the time.
    """
    return _has_wrapping(text) is not None and not text.lstrip().startswith('"')


def _unwrap(text: str) -> NormalizedAddress | None:
    """Return the address that remains after removing the wrapping; None if there is none."""
    inner, names = _strip_around(text), []
    for _ in range(_MAX_WRAPPINGS):
        found = next((match for wrapped in _WRAPPINGS if (match := wrapped(inner))), None)
        if found is None:
            break
        parts = found.groupdict()
        names.append(parts.get("name") or "")
        inner = _strip_around(unquote(parts["link"]) if "link" in parts else parts["inner"])
    if inner == text.strip():
        return None
    try:
        normalized = normalize_address(inner)
        # A mail program may write the address as its own name.
        same = all(parse_address(name) == normalized for name in names if "@" in name)
    except InvalidAddress:
        return None
    return normalized if same else None


def _strip_around(text: str) -> str:
    return text.strip(_AROUND).rstrip(_BEHIND).lstrip(_BEFORE)


def _suggestion(text: str) -> str:
    found = list(dict.fromkeys(_addresses_in(text[:MAX_WRAPPED_LENGTH])))
    if len(found) > 1:
        return f" It has several addresses: {', '.join(found[:3])}. Give each separately."
    return f" Is {found[0]} meant?" if found else ""


def _addresses_in(text: str) -> Iterator[str]:
    """Yield the plain addresses in a text, whatever surrounds them.

    The text is cut at each @-sign: a pattern that begins with the local part would be tried at each
    of its characters, in quadratic time.
    """
    before, *parts = text.split("@")
    for part in parts:
        if domain := _domain_at_start(part):
            local_part = before[len(before.rstrip(_PLAIN)) :].rpartition("..")[2].lstrip("+-.")
            if local_part and not local_part.endswith("."):
                yield f"{local_part}@{domain[0]}"
                before = part[domain.end() :]
                continue
        before = part


class Correction(NamedTuple):
    """What an address that is formally valid probably stands for.

    It `is_certain` where a delimiter, or what a spreadsheet or a link has put before the address,
    was read as a part of it.
    """

    intended: NormalizedAddress
    is_certain: bool


def find_correction(normalized: NormalizedAddress) -> Correction | None:
    """Return what else the address may be: `4711|ada@...` and `'ada@...` are ada's, most probably.

    Each of these characters may be in a local part, so an account that knows the whole address
    means that one. None where nothing is odd about it.
    """
    local_part, _, domain = normalized.address.rpartition("@")
    if local_part.startswith('"') or not (local_part.strip(_PLAIN) or local_part[0] in "+-"):
        return None
    parts = [part.strip(_ODD_ENDS) for part in _split_odd(unquote(local_part))]
    parts = [part for part in parts if _has_letter_or_digit(part)]
    if not parts:
        return None
    part = next((part for part in reversed(parts) if not part.isdecimal()), parts[-1])
    if part == local_part:
        return None
    try:
        meant = normalize_address(f"{part}@{domain}")
    except InvalidAddress:
        return None
    if meant.match_key == normalized.match_key:
        return None
    return Correction(meant, _certainly_odd(local_part) is not None)


def implausible_address(normalized: NormalizedAddress, meant: NormalizedAddress) -> InvalidAddress:
    """Return the error of an address with which another one is meant."""
    return InvalidAddress(
        f"{normalized.address} is formally an address, but {meant.address} is probably meant. Give"
        " the address alone."
    )


_MAX_WRAPPINGS = 5
_INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_BLANKS = "\u0085\u00a0\u2002\u2003\u2007\u2009\u2028\u2029\u202f\u3000"
_AROUND = string.whitespace + _BLANKS + _INVISIBLE
_BEHIND = ".,;:" + _AROUND
_BEFORE = ",;:" + _AROUND
_ODD_ENDS = "'+-."

_WRAPPINGS = [
    re.compile(pattern, re.IGNORECASE | re.DOTALL).fullmatch
    for pattern in (
        r"mailto:(?P<link>[^?]*)(?:\?.*)?",
        r"(?P<name>[^<>]*)<(?P<inner>[^<>]*)>",
        r"(?P<inner>[^()@]*@[^()]*)\([^()@]*\)",
        r"\((?P<inner>[^()]*)\)",
        r"\[(?P<inner>[^][]*)\]",
        r'"(?P<inner>[^"]*)"',
        r"'(?P<inner>[^']*)'",
        "[\u201c\u201d\u201e](?P<inner>[^\u201c\u201d\u201e]*)[\u201c\u201d]",
    )
]

_has_wrapping = re.compile(r"[<>()\[\]:;,]").search
_domain_at_start = re.compile(r"(?:[A-Za-z0-9\-]+\.)+[A-Za-z]{2,}").match

_has_letter_or_digit = re.compile(r"[^\W_]").search
_split_odd = re.compile(r"[^\w.+\-']+").split

_certainly_odd = re.compile(
    r"""
    .*\|                                                 # a delimiter
    | ['=]                                               # a spreadsheet's text mark, a formula
    | %[0-9A-Fa-f]{2}                                    # an encoded character of a link
    | (?:e-?mail|(?:e-?mail[_-]?)?addr(?:ess)?|recipient|to|mailto)[0-9]?=
    | [^\w\x00-\x7f]                                     # punctuation outside ASCII
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
).match


def _normalize_by_library(address: str) -> NormalizedAddress:
    try:
        valid = _validate(address)
    except EmailNotValidError as error:
        raise InvalidAddress(_reason(error)) from None
    return NormalizedAddress(address, f"{valid.local_part.casefold()}@{valid.ascii_domain}")


@lru_cache(maxsize=_MAX_CACHED_DOMAINS)
def _look_up_domain(domain: str) -> _Domain:
    if len(domain) < MAX_ADDRESS_LENGTH - 1 and _plain_domain(domain):
        key = domain.lower()
        if not key.endswith(_SPECIAL_USE):
            return _Domain(f"@{key}", MAX_ADDRESS_LENGTH - 1 - len(domain), _TOO_LONG)
    try:
        valid = _validate(f"a@{domain}")
    except EmailNotValidError as error:
        return _Domain("", 0, _reason(error))
    # The library measures the address as given, with the Unicode domain and with the ASCII one.
    forms = (domain, valid.domain, valid.ascii_domain or "")
    longest = max(len(form.encode()) for form in forms)
    return _Domain(f"@{valid.ascii_domain}", MAX_ADDRESS_LENGTH - 1 - longest, _TOO_LONG)


def _validate(address: str) -> ValidatedEmail:
    return validate_email(
        address,
        check_deliverability=False,
        allow_quoted_local=True,
        allow_smtputf8=True,
        # Other code in the process could change the defaults.
        allow_display_name=False,
        allow_domain_literal=False,
        allow_empty_local=False,
        strict=False,
        test_environment=False,
        globally_deliverable=True,
    )


def _reason(error: EmailNotValidError) -> str:
    return str(error)[:_MAX_REASON]
