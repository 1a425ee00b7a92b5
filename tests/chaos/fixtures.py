"""The contacts that the storm's producers know by id."""

from typing import NamedTuple

from tests.chaos.contact_lists import address_of
from tests.chaos.observer import Observer

_NEWCOMERS = 1_000
"""From among so many of those who come next."""


class Person(NamedTuple):
    """A contact and its addresses' ids by field."""

    contact_id: int
    addresses: dict[int, int]


class People(NamedTuple):
    """Those of one account."""

    everyone: list[Person]

    def one(self, draw: float) -> Person:
        """A contact by chance."""
        return self.everyone[int(draw * len(self.everyone))]

    def newcomer(self, draw: float) -> str:
        """The address of somebody whom no list has brought yet, and one may still bring."""
        return address_of(len(self.everyone) + int(draw * _NEWCOMERS))

    def some(self, draw: float, size: int) -> tuple[int, ...]:
        """The ids of so many contacts that follow each other, from a place by chance."""
        size = min(size, len(self.everyone))
        first = int(draw * (len(self.everyone) - size + 1))
        return tuple(person.contact_id for person in self.everyone[first : first + size])


async def people_of(observer: Observer, account: str) -> People:
    """The account's contacts as they are now."""
    addresses: dict[int, dict[int, int]] = {}
    for row in await observer.rows("people", account=account):
        addresses.setdefault(row["contact_id"], {})[row["field"]] = row["address_id"]
    return People([Person(*item) for item in addresses.items()])
