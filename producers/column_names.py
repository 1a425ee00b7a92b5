"""The meanings of column headers, in every file that is read.

Case, blanks and punctuation are ignored. Every word of an address column must be known: `Account
Manager Email` is another person's address, and `User Email` may be.
"""

import re
from collections.abc import Mapping, Sequence

from producers.short_text_cache import cache_short_texts
from schemas.errors import InvalidRequest

ADDRESS_FIELDS = ("email1", "email2", "email3")
ADDRESS = "email"
"""A further address of the contact, for the next free field."""

IGNORE = "ignore"
STATUS = "status"
STATUS_FIELDS = ("status1", "status2", "status3")
BOOLEAN_MEANINGS = ("unsubscribed", "opted_out", "opted_in", "bounced", "complained")
MEANINGS = (
    *ADDRESS_FIELDS,
    ADDRESS,
    *("given_name", "family_name", "company", "tags", "external_id"),
    STATUS,
    *STATUS_FIELDS,
    *BOOLEAN_MEANINGS,
    IGNORE,
)
"""What a column can be mapped to."""

MAX_COLUMNS = 2_000
"""Columns of a file."""

_MAX_NAME = 200

_WHOSE = (
    "contacts?|persons?|people|customers?|subscribers?|members?|clients?|recipients?|inf|"
    "fields?|data|your|my|leads?"
)
_WHICH = (
    "primary|main|default|first|secondary|second|third|2nd|3rd|other|alternate|alternative|alt|additional|"
    "backup|further|extra|work|business|office|professional|home|private|personal|preferred|"
    "privat|geschaeftlich|geschäftlich|arbeit|beruflich"
)
_MAIL = (
    "(?:e?mails?(?:addr(?:ess(?:es)?)?|adressen?|id)?|adressee?mail|courriel|correoelectr[oó]nico)"
)
_WRITTEN = "text|value|plain|raw|current|new"

_is_address = re.compile(
    f"(?:{_WHOSE}|{_WHICH})*(?P<before>[0-9]?){_MAIL}"
    f"(?P<number>[0-9]{{0,2}})(?:{_WHICH}|{_WRITTEN}|addr(?:ess)?)*(?P<after>[0-9]{{0,2}})"
).fullmatch
_is_first = re.compile(f"(?:{_WHOSE}|primary|main|default|first)*{_MAIL}(?:{_WRITTEN})*").fullmatch
_is_weak_address = re.compile(
    f"(?:{_WHOSE})*(?:address(?:es)?|recipients?|subscribers?|rcptto)[0-9]?"
).fullmatch

_EMAIL = f"(?:{_MAIL})?"
_PATTERNS: dict[str, str] = {
    "given_name": "(?:contacts?|your)?(?:first|given|fore)name|fname|vorname|pr[eé]nom",
    "family_name": "(?:contacts?|your)?(?:last|family|sur)name|lname|nachname|familienname",
    "company": "(?:company|organi[sz]ation)(?:name)?|firma",
    "tags": "tags?|tagnames?|contacttags?",
    "external_id": "(?:inf(?:field)?)?(?:contact)?id|externalid|contact(?:no|number)",
    STATUS: f"(?:subscribers?|recipients?|members?)?{_EMAIL}"
    "(?:marketing|opt(?:in|out|inout)?|subscri(?:ption|ber|bed)|"
    f"consent|permission|mailing|newsletter)*{_EMAIL}status(?:es)?",
    "unsubscribed": f"(?:is|has|date)?{_EMAIL}unsubscribed?(?:fromall{_EMAIL}|from{_EMAIL})?"
    "(?:on|at|date|time|timestamp)?|unsub(?:time|date)?|(?:date)?abgemeldet(?:am)?|abmeldedatum",
    "opted_out": f"(?:is|has)?{_EMAIL}(?:global)?opt(?:ed)?out(?:of)?{_EMAIL}"
    "(?:on|at|date|time|timestamp)?"
    f"|(?:donot|dont|no)(?:bulk|send)?(?:{_MAIL}s?|contact|marketing|newsletter)"
    "|(?:is)?(?:suppressed|blacklisted|blocklisted)|dnc|dne",
    "opted_in": f"(?:is|has)?{_EMAIL}(?:marketing|newsletter|gdpr|dsgvo)*{_EMAIL}"
    "(?:opt(?:ed)?in|subscribed|consent(?:given)?|permission)(?:to|for)?"
    f"(?:{_EMAIL}|marketing|newsletter)*"
    f"|accepts{_EMAIL}marketing|newsletter|einwilligung",
    "bounced": f"(?:is|has)?{_EMAIL}(?:hard)?bounced?(?:on|at|date)?",
    "complained": f"(?:is|has)?{_EMAIL}(?:spam)?complain(?:ed|t)(?:on|at|date)?"
    "|(?:is|marked|reported)?(?:as)?spam",
    # Neither addresses nor statuses: kinds of an address, postal addresses, and the evidence of
    # an opt-in, which counts only with a claim of permission.
    IGNORE: f"{_MAIL}[0-9]?(?:type|label|displayname|domain|provider|format)"
    "|mailing(?:street|city|state|zip|postal|country|address)[a-z]*[0-9]*"
    "|(?:optin|confirm|subscription|subscribed)(?:time|date|ip|on|at)",
}
_matches = {meaning: re.compile(pattern).fullmatch for meaning, pattern in _PATTERNS.items()}
_is_numbered_status = re.compile(
    f"{_MAIL}(?P<a>[1-3])(?:optin|optout|opt|subscription|consent|permission|marketing)?status"
    f"|(?:opt)?status{_EMAIL}(?P<b>[1-3])"
).fullmatch

_sounds = re.compile(
    "mail|subscri|consent|status|permission|bounce|unsub|donot|suppress|gdpr|dsgvo|marketing|"
    "newsletter|spam|complain|blacklist|blocklist|einwillig|abgemeldet|abmeld|optin|optout|opted|"
    "clean|confirm|d[eé]sabonn|d[eé]sinscri|abbestell|afgemeld|widerruf|contactable|deliverab|active|"
    "exclu|removed|deleted|^baja$|blocked|sperre|gesperrt|zustimm|sendable|kein(?:e)?kontakt|werbung"
).search
_word_opt = re.compile(r"(?:^|[\W_])opt(?:[\W_]|$)").search


def require_width(headers: Sequence[str]) -> None:
    """Raise InvalidRequest for more columns than a file may have."""
    if len(headers) > MAX_COLUMNS:
        raise InvalidRequest(
            f"The file has {len(headers):,} columns; the limit is {MAX_COLUMNS:,}. Nothing was"
            " stored. Remove the columns that are not needed."
        )


def normalize_header(header: str) -> str:
    """Return the header for comparison: casefolded, with one blank between words."""
    return " ".join(header.split()).casefold()


def plain_name(text: str) -> str:
    """Return the text without case, blanks and punctuation."""
    return re.sub(r"[\W_]", "", text).casefold()


@cache_short_texts(maxsize=4096)
def column_meaning(header: str, *, weak: bool = False) -> str | None:
    """Return the header's meaning, one of MEANINGS; None if it is unknown.

    `Address` may be a postal one, and `Recipient` a name. They are `weak` meanings, for files in
    which no other column has email addresses.
    """
    if len(header) > _MAX_NAME:
        return None
    found = _column_meaning(plain_name(header), weak=weak)
    # The answer to a question is yes or no.
    return None if header.rstrip().endswith("?") and found not in BOOLEAN_MEANINGS else found


def _column_meaning(name: str, *, weak: bool) -> str | None:
    if _is_first(name):
        return ADDRESS_FIELDS[0]
    if found := _is_address(name):
        number = found["before"] or found["number"] or found["after"]
        known = number.isdecimal() and 1 <= int(number) <= len(ADDRESS_FIELDS)
        return ADDRESS_FIELDS[int(number) - 1] if known else ADDRESS
    if _is_weak_address(name):
        return ADDRESS if weak else None
    if found := _is_numbered_status(name):
        return STATUS_FIELDS[int(found["a"] or found["b"]) - 1]
    return next((meaning for meaning, fits in _matches.items() if fits(name)), None)


def is_address_column(header: str, *, weak: bool = False) -> bool:
    """Return whether a column of this name has addresses of the contact."""
    meaning = column_meaning(header, weak=weak)
    return meaning == ADDRESS or meaning in ADDRESS_FIELDS


def prefer_contact_ids(headers: Mapping[int, str]) -> list[int]:
    """Return the columns of ids to read: an `Id` next to a `Contact Id` identifies something else.

    `headers` are the names of all columns of ids.
    """
    return [at for at, name in headers.items() if "contact" in name.casefold()] or list(headers)


def mentions_consent(header: str) -> bool:
    """Return whether a column of this name may be about mail or consent."""
    return bool(_sounds(plain_name(header)) or _word_opt(header.casefold()))
