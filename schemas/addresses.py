"""What an email address is, and when two of them are the same.

The rules are those of the email-validator library. It takes 0.05 ms an address, minutes for a file
of millions, so the common case goes a shorter way here: the domain is put to the library once and
remembered, and a plain local part needs one regular expression. A property test holds the two ways
together.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from email_validator import EmailNotValidError, ValidatedEmail, validate_email

MAX_ADDRESS = 254
"""The longest address there can be, in bytes of UTF-8."""

_MAX_PLAIN_LOCAL_PART = 64
_MAX_REASON = 200
_DOMAINS_REMEMBERED = 1 << 16

_ATOM = r"[A-Za-z0-9_!#$%&'*+\-/=?^`{|}~]+"
_plain_local_part = re.compile(rf"{_ATOM}(?:\.{_ATOM})*").fullmatch


class Identity(NamedTuple):
    """An address as it was given, and the key under which an account knows it."""

    address: str
    match_key: str


class InvalidAddress(ValueError):
    """The text is no email address; the message says why in a sentence for people."""


_TOO_LONG = f"An email address has at most {MAX_ADDRESS} characters."


class _Domain(NamedTuple):
    """What the library says of a domain: its ASCII form behind an @.

    `room` is how long a plain local part may be before the address is refused with `refusal`.
    """

    key: str
    room: int
    refusal: str


_NO_DOMAIN = _Domain("", 0, _TOO_LONG)


def identify(text: str) -> Identity:
    """The identity of an address, surrounding white space aside.

    The key is the casefolded local part and the ASCII domain. Dots and +tags are kept: they are
    the recipient's business. Raises InvalidAddress for everything else, among it `Name <address>`
    and `mailto:`.
    """
    address = text.strip()
    local_part, at, domain = address.partition("@")
    if not (at and len(local_part) <= _MAX_PLAIN_LOCAL_PART and _plain_local_part(local_part)):
        return _identify_by_library(address)
    key, room, refusal = _domain(domain) if len(domain) <= MAX_ADDRESS else _NO_DOMAIN
    if len(local_part) > room:
        raise InvalidAddress(refusal)
    return Identity(address, local_part.lower() + key)


def _identify_by_library(address: str) -> Identity:
    # The library's time grows with the length, and its answer to this is known.
    if len(address) > MAX_ADDRESS:
        raise InvalidAddress(_TOO_LONG)
    try:
        valid = _validate(address)
    except EmailNotValidError as error:
        raise InvalidAddress(_reason(error)) from None
    return Identity(address, f"{valid.local_part.casefold()}@{valid.ascii_domain}")


@lru_cache(maxsize=_DOMAINS_REMEMBERED)
def _domain(domain: str) -> _Domain:
    try:
        valid = _validate(f"a@{domain}")
    except EmailNotValidError as error:
        return _Domain("", 0, _reason(error))
    # The library measures the address as given, with its Unicode and with its ASCII domain.
    forms = (domain, valid.domain, valid.ascii_domain or "")
    longest = max(len(form.encode()) for form in forms)
    return _Domain(f"@{valid.ascii_domain}", MAX_ADDRESS - 1 - longest, _TOO_LONG)


def _validate(address: str) -> ValidatedEmail:
    return validate_email(
        address,
        check_deliverability=False,
        allow_quoted_local=True,
        allow_smtputf8=True,
        # The module's globals could be changed by others in the process.
        allow_display_name=False,
        allow_domain_literal=False,
        allow_empty_local=False,
        strict=False,
        test_environment=False,
        globally_deliverable=True,
    )


def _reason(error: EmailNotValidError) -> str:
    return str(error)[:_MAX_REASON]
