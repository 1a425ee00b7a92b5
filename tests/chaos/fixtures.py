"""The contacts that producers know by id."""

from typing import NamedTuple

from tests.chaos.contact_lists import address_of
from tests.chaos.observer import Observer

_NEW_ADDRESSES = 1_000
"""From among so many of those who come next."""


class SampleContact(NamedTuple):
    """A contact and its addresses' ids by field."""

    contact_id: int
    addresses: dict[int, int]


class SampleContacts(NamedTuple):
    """Those of one account."""

    contacts: list[SampleContact]

    def pick(self, draw: float) -> SampleContact:
        """A contact by chance."""
        return self.contacts[int(draw * len(self.contacts))]

    def new_address(self, draw: float) -> str:
        """The address of somebody whom no list has brought yet, and one may still bring."""
        return address_of(len(self.contacts) + int(draw * _NEW_ADDRESSES))

    def pick_many(self, draw: float, size: int) -> tuple[int, ...]:
        """The ids of so many contacts that follow each other, from a place by chance."""
        size = min(size, len(self.contacts))
        first = int(draw * (len(self.contacts) - size + 1))
        return tuple(person.contact_id for person in self.contacts[first : first + size])


async def read_sample_contacts(observer: Observer, account: str) -> SampleContacts:
    """The account's contacts as they are now."""
    addresses: dict[int, dict[int, int]] = {}
    for row in await observer.rows("contact_addresses", account=account):
        addresses.setdefault(row["contact_id"], {})[row["field"]] = row["address_id"]
    return SampleContacts([SampleContact(*item) for item in addresses.items()])
