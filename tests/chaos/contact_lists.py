"""Contact lists for chaos runs, made from a seed, as CSV files to be imported.

They have what makes consent hard: families that share an address, offices behind a role address,
addresses that exactly as many contacts hold as are still one person's, and people listed again.
"""

import csv
import io
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

LIMIT = 10
"""`SHARED_ADDRESS_LIMIT` of the workers: an address that more contacts hold is a role address."""

TAGS = ("spring", "summer", "autumn", "winter")

_HEADER = (
    *("First Name", "Last Name", "Company"),
    *("Email", "Email Address 2", "Email Address 3"),
    "Tags",
)
_OFFICE = 3 * LIMIT
"""So many people in a row have one office; half of them are listed with its address."""


class ContactList(NamedTuple):
    """One list for one account. Persons are numbered; a person of two lists is one with the same
    number, and gets another second address in each.
    """

    account: str
    list_no: int
    first: int
    contacts: int

    def csv(self) -> io.BytesIO:
        """The file, ready to be imported."""
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(_HEADER)
        draw = Random(f"list {self.account} {self.list_no}")
        rows.writerows(self._rows(draw))
        return io.BytesIO(text.getvalue().encode())

    def _rows(self, draw: Random) -> Iterator[tuple[str, ...]]:
        for person in range(self.first, self.first + self.contacts):
            addresses = _addresses(self, draw, person)
            yield ("Given", f"Family {person // 4}", "", *addresses, draw.choice(TAGS))


def address_of(person: int) -> str:
    """A person's own address, the same in every list."""
    return f"person{person}@example.com"


def _addresses(of: ContactList, draw: Random, person: int) -> tuple[str, str, str]:
    first = address_of(person)
    if draw.random() < 0.1:
        first = first.upper()
    second = f"person{person}.{of.list_no}@work.example.net" if draw.random() < 0.5 else ""
    return (first, second, _shared(person))


def _shared(person: int) -> str:
    """A family's, an office's, a desk's (held by exactly the limit), or nobody's."""
    office, place = divmod(person, _OFFICE)
    if office % 3 == 0 and place % 2:
        return f"info{office}@office.example.org"
    if office % 3 == 1 and place in range(1, LIMIT + 1):
        return f"desk{office}@office.example.org"
    if office % 3 == 2 and place % 4:
        return f"family{person // 4}@example.org"
    return ""
