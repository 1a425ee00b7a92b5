"""The contacts whose ids the producers know."""

from typing import NamedTuple

from tests.chaos.contact_lists import address_of
from tests.chaos.observer import Observer

_NEW_ADDRESSES = 1_000
"""New addresses are drawn from this many future contacts."""


class SampleContact(NamedTuple):
    """A contact, and the ids of its addresses by field."""

    contact_id: int
    addresses: dict[int, int]


class SampleContacts(NamedTuple):
    """The contacts of one account."""

    contacts: list[SampleContact]

    def pick(self, draw: float) -> SampleContact:
        """Choose a contact at random."""
        return self.contacts[int(draw * len(self.contacts))]

    def new_address(self, draw: float) -> str:
        """Return an address that no list has brought yet, but one may still bring."""
        return address_of(len(self.contacts) + int(draw * _NEW_ADDRESSES))

    def pick_many(self, draw: float, size: int) -> tuple[int, ...]:
        """Return the ids of consecutive contacts, starting at a random one."""
        size = min(size, len(self.contacts))
        first = int(draw * (len(self.contacts) - size + 1))
        return tuple(contact.contact_id for contact in self.contacts[first : first + size])


async def read_sample_contacts(observer: Observer, account: str) -> SampleContacts:
    """Read the account's present contacts."""
    addresses: dict[int, dict[int, int]] = {}
    for row in await observer.rows("contact_addresses", account=account):
        addresses.setdefault(row["contact_id"], {})[row["field"]] = row["address_id"]
    return SampleContacts([SampleContact(*item) for item in addresses.items()])
