"""The meanings of field names in a hook's post.

Each sender has its own names: `Email`, `inf_field_EmailAddress2`, `data[email]`, `merges[EMAIL]`,
`Contact.Email`, or a path of JSON. Case, blanks and punctuation are ignored, and every word must be
known. So `owner_email` and `reply_to` are not read: they hold another person's address, which must
not be opted out.
"""

import re
from enum import Enum

from producers.column_names import is_address_column, plain_name
from producers.short_text_cache import cache_short_texts

_MAX_NAME = 200
"""In characters; longer names have no meaning."""


class Meaning(Enum):
    """The meaning of a field."""

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
"""A field with one of these words has the recipient's address. No word here or below is a sequence
of others, so that a name can be read in one way only."""

AROUND = (
    *("contact", "contacts", "person", "people", "customer", "customers", "subscriber"),
    *("subscribers", "member", "members", "lead", "leads", "prospect", "profile", "record"),
    *("inf", "custom", "form", "field", "fields", "data", "payload", "body", "object", "item"),
    *("json", "request", "submission", "mandrill", "msg"),
    *("event", "events", "raw", "merge", "merges", "property", "properties", "attributes"),
    *("value", "values", "text"),
    *("primary", "main", "secondary", "other", "alternate", "alternative", "additional"),
    *("work", "business", "office", "home", "private", "personal", "addr", "your", "my"),
    *("unsubscribe", "unsubscribed", "optout", "optedout", "id"),
)
"""Words that may stand around an address word, and around the names of other fields. None of them
names another person than the recipient."""

_OF_LISTS = ("unsubscribe", "optout")
"""Words of an address that may be the list's own, to which a mail opts out."""

_PROSE = ("body", "text")
"""Words that, after an address word, may mean the text of a mail."""

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
_may_mean = re.compile(
    "mail|address|recipient|rcptto|courriel|correoelectr|(?:kind[0-9]*|id|occurredat|note)$"
).search
"""Every name with a meaning has one of these; the search takes a tenth of the time of a pattern."""

_any = f"(?:{'|'.join((*ADDRESS_WORDS, *AROUND))}|[0-9])*"
_is_weak = re.compile(
    f"{_any}(?:(?:{'|'.join(_OF_LISTS)})|{_address}{_any}(?:{'|'.join(_PROSE)})){_any}"
).fullmatch
_ends_in_address = re.compile(r".*(?:mail|mails|address|addresses)[0-9]*").fullmatch
_matches = {meaning: re.compile(pattern).fullmatch for meaning, pattern in _PATTERNS.items()}


@cache_short_texts(maxsize=4096)
def field_meaning(name: str) -> Meaning | None:
    """Return the meaning of a field of this name; None if it is unknown."""
    if len(name) > _MAX_NAME or name.isdecimal():
        return None
    plain = plain_name(name)
    if not _may_mean(plain):
        return None
    found = next((meaning for meaning, matches in _matches.items() if matches(plain)), None)
    # Every address column of an import is an address here.
    return found or (Meaning.ADDRESS if is_address_column(name) else None)


@cache_short_texts(maxsize=4096)
def is_weak_address_field(name: str) -> bool:
    """Return whether an address field of this name may not have the recipient's address.

    `unsubscribe_email` next to `email` is often the address of the list.
    """
    return len(name) <= _MAX_NAME and _is_weak(plain_name(name)) is not None


@cache_short_texts(maxsize=4096)
def is_address_list(name: str) -> bool:
    """Return whether a list of this name has the addresses of one person.

    `contact.emails` has, but `recipients` and `email_events` have not.
    """
    return field_meaning(name) is Meaning.ADDRESS and _ends_in_address(plain_name(name)) is not None
