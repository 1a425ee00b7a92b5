"""The contact lists of chaos runs contain the difficult cases of consent."""

import csv
import io
from collections import Counter

from tests.chaos.contact_lists import LIMIT, ContactList


def addresses(contacts: ContactList) -> list[str]:
    """Return all addresses in the list's CSV, in lower case."""
    rows = csv.DictReader(io.TextIOWrapper(contacts.csv(), encoding="utf-8"))
    names = ("Email", "Email Address 2", "Email Address 3")
    return [row[name].lower() for row in rows for name in names if row[name]]


def test_the_same_seed_gives_the_same_file():
    """The same seed gives the same bytes, so a resubmitted request is recognized by them."""
    contacts = ContactList("amber", 3, 100, 50)
    assert contacts.csv().getvalue() == contacts.csv().getvalue()


def test_addresses_are_shared_below_at_and_above_the_limit():
    """Families share addresses, desks share one with exactly the limit of contacts, and offices
    exceed it.
    """
    holders = Counter(addresses(ContactList("amber", 0, 0, 900)))
    kinds = {
        name: {count for address, count in holders.items() if address.startswith(name)}
        for name in ("person", "family", "desk", "info")
    }
    assert kinds["person"] == {1}
    assert 1 < max(kinds["family"]) < LIMIT
    assert kinds["desk"] == {LIMIT}
    assert min(kinds["info"]) > LIMIT


def test_a_later_list_repeats_known_contacts():
    """A later list repeats known first addresses and brings new second ones."""
    first = set(addresses(ContactList("amber", 0, 0, 300)))
    later = set(addresses(ContactList("amber", 1, 100, 300)))
    assert first & later
    assert later - first
