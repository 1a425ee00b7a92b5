"""Reading what the decisions of a chunk depend on: what is the same for all sources of items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple, Self

import asyncpg

from actions.bulk_action import BulkAction
from actions.rules.chunk import AddressRow, ChunkInputs
from db import chunk_addresses
from db.address_lists import ListLookup
from db.chunk_addresses import AddressColumns, Sibling
from db.job_progress import JobToWork
from db.result_rows import Contacts
from schemas.chunk_rows import Link
from schemas.decisions import AddressState
from schemas.errors import ConcurrentLink
from schemas.statuses import OWN_RIGHT, Status

_OWN_RIGHT = frozenset(OWN_RIGHT)


class ChunkSnapshot(NamedTuple):
    """The inputs of a chunk, as of `decided_at`.

    `versions` tell whether an address is still as it was read. `new` are the addresses that the
    chunk creates, and `contacts` the contacts of items that have another id.
    """

    inputs: ChunkInputs
    decided_at: datetime
    versions: dict[int, int]
    new: frozenset[int] = frozenset()
    contacts: Contacts = None

    def add_inputs(self, **inputs: Any) -> Self:
        """Return the snapshot with more inputs."""
        return self._replace(inputs=replace(self.inputs, **inputs))


class ChunkReader(NamedTuple):
    """Reads addresses for one chunk, in its transaction.

    With `lock_all`, every address is locked before it is read. `lookup` has the addresses of an
    immediate opt-out, whose list is not stored.
    """

    connection: asyncpg.Connection
    job: JobToWork
    action: BulkAction
    params: Any
    role_address_limit: int
    lock_all: bool
    lookup: ListLookup | None = None

    @property
    def has_propagation(self) -> bool:
        """Whether the job may change addresses of contacts outside the chunk."""
        return has_propagation(self.action, self.params)

    def snapshot(
        self,
        links: Sequence[Link],
        addresses: Mapping[int, AddressRow],
        sibling_links: Mapping[int, Sequence[Link]],
        versions: dict[int, int],
        decided_at: datetime,
    ) -> ChunkSnapshot:
        """Return a snapshot of the parts that every source reads."""
        inputs = ChunkInputs(
            job_id=self.job.id,
            fields=frozenset(self.job.fields),
            role_address_limit=self.role_address_limit,
            links=links,
            addresses=addresses,
            sibling_links=sibling_links,
        )
        return ChunkSnapshot(inputs, decided_at, versions)

    async def lock(
        self, links: list[Link], new_addresses: Mapping[int, AddressRow], *, min_contacts: int = 2
    ) -> ChunkSnapshot:
        """Lock the linked addresses and their siblings in id order, then read them.

        Siblings are read only of addresses that at least `min_contacts` contacts hold.

        Without `lock_all`, role addresses are read but not locked. Their opt-outs do not propagate
        to contacts that are linked later, so no lock has to prevent such links. `new_addresses`
        need no lock either, since no other transaction sees them. Raises ConcurrentLink if a
        sibling was linked before the locks were taken.
        """
        account_id = self.job.account_id
        wanted = {link[2] for link in links}
        if self.has_propagation:
            selected = {link[2] for link in links if link[1] in self.job.fields}
            siblings = await self._read_siblings(selected, min_contacts)
            wanted |= {link[2] for linked in siblings.values() for link in linked}
        wanted.difference_update(new_addresses)
        read = await chunk_addresses.lock_addresses(
            self.connection,
            account_id,
            sorted(wanted),
            role_address_limit=None if self.lock_all else self.role_address_limit,
        )
        addresses, versions = addresses_by_id(read), versions_by_id(read)
        roles = wanted.difference(addresses)
        if roles:
            # Read after the locks, so that no version is that of a later change.
            read = await chunk_addresses.read_addresses(self.connection, account_id, sorted(roles))
            addresses |= addresses_by_id(read)
            versions |= versions_by_id(read)
        addresses |= new_addresses
        sibling_links = {}
        if self.has_propagation:
            # From now on nothing can be linked to the locked addresses.
            sibling_links = await self.read_shared_siblings(links, addresses, min_contacts)
            if any(link[2] not in addresses for of in sibling_links.values() for link in of):
                raise ConcurrentLink("contacts were linked to an address of the chunk meanwhile")
        return self.snapshot(links, addresses, sibling_links, versions, read.decided_at)

    async def read_shared_siblings(
        self, links: list[Link], addresses: Mapping[int, AddressRow], min_contacts: int = 2
    ) -> dict[int, list[Link]]:
        """Map the selected addresses of at least `min_contacts` contacts to the links of their
        siblings, without role addresses.
        """
        fields, limit = self.job.fields, self.role_address_limit
        shared = {
            link[2]
            for link in links
            if min_contacts <= addresses[link[2]][3] <= limit and link[1] in fields
        }
        return await self._read_siblings(shared, min_contacts)

    async def _read_siblings(
        self, address_ids: set[int], min_contacts: int
    ) -> dict[int, list[Link]]:
        if not address_ids:
            return {}
        return group_by_source(
            await chunk_addresses.read_siblings(
                self.connection,
                self.job.account_id,
                sorted(address_ids),
                min_contacts=min_contacts,
                role_address_limit=self.role_address_limit,
            )
        )

    async def find_addresses_with_opted_out_sibling(
        self, inputs: ChunkInputs, links: Sequence[Link] = ()
    ) -> frozenset[int]:
        """Return the selected addresses with a sibling that is opted out in its own right.

        A role address does not count as such a sibling. Return none unless the action checks
        siblings. If one contact holds the address, `links` has all its siblings. If several do,
        Postgres reads the siblings on all of them.
        """
        if not self.action.checks_siblings:
            return frozenset()
        found = _find_addresses_with_opted_out_sibling_in_links(inputs, links) if links else set()
        selected = {link[2] for link in inputs.selected_links()}
        shared = self._filter_sibling_dependent(
            [id_ for id_ in selected if inputs.addresses[id_][3] > 1], inputs.addresses
        )
        if shared:
            found.update(
                await chunk_addresses.find_addresses_with_opted_out_sibling(
                    self.connection,
                    self.job.key,
                    address_ids=shared,
                    own_right_statuses=OWN_RIGHT,
                    role_address_limit=self.role_address_limit,
                )
            )
        return frozenset(found)

    def _filter_sibling_dependent(
        self, address_ids: list[int], addresses: Mapping[int, AddressRow]
    ) -> list[int]:
        """Return the addresses whose decision an opted-out sibling would change."""
        depends: dict[tuple[Status | None, bool], bool] = {}
        found = []
        for id_ in address_ids:
            status, source, _, _ = addresses[id_]
            key = (status, source is not None)
            if key not in depends:
                without = AddressState(*key)
                depends[key] = self.action.decide(without, self.params) != self.action.decide(
                    without._replace(sibling_opted_out=True), self.params
                )
            if depends[key] and status is not None:
                found.append(id_)
        return found


def _find_addresses_with_opted_out_sibling_in_links(
    inputs: ChunkInputs, links: Sequence[Link]
) -> set[int]:
    """Return the addresses with a sibling on the same contact that is opted out in its own right.

    A role address does not count as such a sibling.
    """
    limit = inputs.role_address_limit
    opted_out = {
        id_
        for id_, (status, source, _, person_count) in inputs.addresses.items()
        if status in _OWN_RIGHT and source is None and person_count <= limit
    }
    if not opted_out:
        return set()
    by_contact: dict[int, set[int]] = {}
    for contact_id, _, address_id in links:
        if address_id in opted_out:
            by_contact.setdefault(contact_id, set()).add(address_id)
    return {
        address_id
        for contact_id, _, address_id in links
        if contact_id in by_contact and by_contact[contact_id] - {address_id}
    }


def initial_status(action: BulkAction, params: Any, stated: Status | None = None) -> Status:
    """Return the status that a job of this action gives an address that is new to the account."""
    first = action.decide(AddressState(status=None, stated=stated), params).to_status
    assert first is not None
    return first


def has_propagation(action: BulkAction, params: Any) -> bool:
    """Return whether a job of the action may change addresses of contacts outside the chunk."""
    if not action.may_propagate:
        return False
    propagations = (action.propagation(status, params) for status in OWN_RIGHT)
    return any(each is not None and each.beyond_chunk for each in propagations)


def max_person_count_to_read_siblings(
    action: BulkAction, params: Any, role_address_limit: int
) -> int:
    """Return the largest person count of a listed address whose siblings a chunk has to read.

    It is 0 if the job propagates nothing beyond its chunks: then no siblings are read.
    """
    return role_address_limit if has_propagation(action, params) else 0


def group_by_source(sibling_links: Iterable[Sibling]) -> dict[int, list[Link]]:
    """Map addresses to the links of their siblings."""
    linked: dict[int, list[Link]] = {}
    for source, contact, field, address in sibling_links:
        linked.setdefault(source, []).append((contact, field, address))
    return linked


_STATUSES = {status.value: status for status in Status}
"""Looking statuses up takes a tenth of the time of making each."""


def addresses_by_id(read: AddressColumns) -> dict[int, AddressRow]:
    """Map address ids to the addresses as the decisions need them."""
    statuses = map(_STATUSES.__getitem__, read.statuses)
    columns = zip(statuses, read.sources, read.job_ids, read.person_counts, strict=True)
    return dict(zip(read.ids, columns, strict=True))


def versions_by_id(read: AddressColumns) -> dict[int, int]:
    """Map address ids to the addresses' versions."""
    return dict(zip(read.ids, read.versions, strict=True))
