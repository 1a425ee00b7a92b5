"""What the name of a field in a hook's message means.

Each sender has names of its own: `Email`, `inf_field_EmailAddress2`, `data[email]`,
`merges[EMAIL]`, `Contact.Email`, or a path of JSON. A name is read without case, blanks and
punctuation, and has to consist of known words only. So `owner_email` and `reply_to` are not read:
an address there is another person's, who must not be opted out.
"""

import re
from enum import Enum

from producers.column_names import is_address_column
from producers.short_text_cache import cache_short_texts

_MAX_NAME = 200
"""Longer names are not looked at."""


class Meaning(Enum):
    """What a field is for."""

    ADDRESS = "address"
    KIND = "kind"
    EVENT_ID = "event_id"
    CONTACT_ID = "contact_id"
    OCCURRED_AT = "occurred_at"
    NOTE = "note"


ADDRESS_WORDS = (
    *("email", "emails", "mail", "mails", "address", "addresses"),
    *("recipient", "recipients", "rcptto"),
)
"""One of these makes a field one with the recipient's address. No word here, or below, is made of
others, so that there is one way to read a name."""

AROUND = (
    *("contact", "contacts", "person", "people", "customer", "customers", "subscriber"),
    *("subscribers", "member", "members", "lead", "leads", "prospect", "profile", "record"),
    *("inf", "custom", "form", "field", "fields", "data", "payload", "body", "object", "item"),
    *("json", "request", "submission", "mandrill", "msg"),
    *(
        "event",
        "events",
        "raw",
        "merge",
        "merges",
        "property",
        "properties",
        "attributes",
        "value",
        "values",
        "text",
    ),
    *("primary", "main", "secondary", "other", "alternate", "alternative", "additional"),
    *("work", "business", "office", "home", "private", "personal", "addr", "your", "my"),
    *("unsubscribe", "unsubscribed", "optout", "optedout", "id"),
)
"""Words that may stand around it, and around the names of the other fields. None of them names
another person than the recipient."""

_OF_LISTS = ("unsubscribe", "optout")
"""Words of what may be the list's own address, to which a mail opts out."""

_PROSE = ("body", "text")
"""Words that, behind one for an address, may mean what was written in a mail."""

_around = f"(?:{'|'.join(AROUND)}|[0-9])*"
_address = f"(?:{'|'.join(ADDRESS_WORDS)})"

_PATTERNS = {
    Meaning.ADDRESS: f"{_around}(?:{_address}{_around})+",
    Meaning.KIND: f"{_around}kind[0-9]*",
    Meaning.EVENT_ID: f"{_around}eventid",
    Meaning.OCCURRED_AT: f"{_around}occurredat",
    Meaning.NOTE: f"{_around}note",
    Meaning.CONTACT_ID: f"(?:{_around}contact)?id|{_around}contact{_around}id",
}
_punctuation = re.compile(r"[\W_]")
_may_mean = re.compile(
    "mail|address|recipient|rcptto|courriel|correoelectr|(?:kind[0-9]*|id|occurredat|note)$"
).search
"""Only names with one of these mean anything. It takes a tenth of the time that each pattern takes
to tell."""

_any = f"(?:{'|'.join((*ADDRESS_WORDS, *AROUND))}|[0-9])*"
_is_weak = re.compile(
    f"{_any}(?:(?:{'|'.join(_OF_LISTS)})|{_address}{_any}(?:{'|'.join(_PROSE)})){_any}"
).fullmatch
_ends_in_address = re.compile(r".*(?:mail|mails|address|addresses)[0-9]*").fullmatch
_matches = {meaning: re.compile(pattern).fullmatch for meaning, pattern in _PATTERNS.items()}


@cache_short_texts(maxsize=4096)
def field_meaning(name: str) -> Meaning | None:
    """Return what a field of this name is for; None where that is not known."""
    if len(name) > _MAX_NAME or name.isdecimal():
        return None
    plain = _plain(name)
    if not _may_mean(plain):
        return None
    found = next((meaning for meaning, matches in _matches.items() if matches(plain)), None)
    # Whatever an import takes for an address of the person is one here.
    return found or (Meaning.ADDRESS if is_address_column(name) else None)


@cache_short_texts(maxsize=4096)
def is_weak_address_field(name: str) -> bool:
    """Return whether a field of this name, one with an address, may have another than the
    recipient's: `unsubscribe_email` beside `email` is often that of the list.
    """
    return len(name) <= _MAX_NAME and _is_weak(_plain(name)) is not None


@cache_short_texts(maxsize=4096)
def is_address_list(name: str) -> bool:
    """Return whether a list of this name has the addresses of one person: `contact.emails` has,
    and neither `recipients` nor `email_events`.
    """
    return field_meaning(name) is Meaning.ADDRESS and _ends_in_address(_plain(name)) is not None


def _plain(name: str) -> str:
    return _punctuation.sub("", name).casefold()
