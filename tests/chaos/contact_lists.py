"""Contact lists for chaos runs, generated from a seed as CSV files to import.

They contain the difficult cases of consent: families that share an address, offices with a role
address, addresses held by exactly the limit of contacts, and repeated contacts.
"""

import csv
import io
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

LIMIT = 10
"""`ROLE_ADDRESS_LIMIT` of the workers: an address that more contacts hold is a role address."""

TAGS = ("spring", "summer", "autumn", "winter")

_HEADER = (
    *("First Name", "Last Name", "Company"),
    *("Email", "Email Address 2", "Email Address 3"),
    "Tags",
)
_OFFICE = 3 * LIMIT
"""The number of consecutive contacts with one office; half of them have its address."""


class ContactList(NamedTuple):
    """A list for one account. Contacts are numbered; the same number in two lists is the same
    contact, with another second address in each.
    """

    account: str
    list_no: int
    first: int
    contacts: int

    def csv(self) -> io.BytesIO:
        """Return the file, ready to import."""
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(_HEADER)
        draw = Random(f"list {self.account} {self.list_no}")
        rows.writerows(self._rows(draw))
        return io.BytesIO(text.getvalue().encode())

    def _rows(self, draw: Random) -> Iterator[tuple[str, ...]]:
        for number in range(self.first, self.first + self.contacts):
            addresses = _addresses(self, draw, number)
            yield ("Given", f"Family {number // 4}", "", *addresses, draw.choice(TAGS))


def address_of(number: int) -> str:
    """Return a contact's own address, the same in every list."""
    return f"person{number}@example.com"


def _addresses(of: ContactList, draw: Random, number: int) -> tuple[str, str, str]:
    first = address_of(number)
    if draw.random() < 0.1:
        first = first.upper()
    second = f"person{number}.{of.list_no}@work.example.net" if draw.random() < 0.5 else ""
    return (first, second, _shared(number))


def _shared(number: int) -> str:
    """Return the address of a family, an office or a desk (held by exactly the
    limit), or nothing.
    """
    office, place = divmod(number, _OFFICE)
    if office % 3 == 0 and place % 2:
        return f"info{office}@office.example.org"
    if office % 3 == 1 and place in range(1, LIMIT + 1):
        return f"desk{office}@office.example.org"
    if office % 3 == 2 and place % 4:
        return f"family{number // 4}@example.org"
    return ""
