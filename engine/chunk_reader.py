"""Reading what the decisions of a chunk depend on."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from actions.bulk_action import BulkAction
from actions.rules.chunk import AddressRow, ChunkFacts
from db import address_lists, chunk_addresses, import_chunks, results
from db.address_lists import ListLookup
from db.chunk_addresses import AddressColumns, Sibling
from db.chunks import ClaimedChunk
from db.job_progress import JobToWork
from db.result_rows import Contacts
from engine.sources.import_rows import ImportedRows, create_contacts, read_row_links
from schemas.chunk_rows import Link
from schemas.decisions import AddressState, Decision
from schemas.errors import ConcurrentLink
from schemas.outcomes import Outcome
from schemas.requests import LISTED_ADDRESS_FIELD
from schemas.statuses import OWN_RIGHT, Status

_OWN_RIGHT = frozenset(OWN_RIGHT)

_NEW: AddressRow = (None, None, None, 0)
"""What is known of an address that the account did not know."""


class ChunkSnapshot(NamedTuple):
    """The facts, when they were true, and the addresses that the chunk brought in.

    `versions` tell whether an address is still as it was read, and `contacts` which contacts items
    are about.
    """

    facts: ChunkFacts
    decided_at: datetime
    new: frozenset[int]
    versions: Mapping[int, int]
    contacts: Contacts


async def read_chunk(
    connection: asyncpg.Connection,
    *,
    job: JobToWork,
    action: BulkAction,
    params: Any,
    chunk: ClaimedChunk,
    shared_address_limit: int,
    lock_all: bool,
    lookup: ListLookup | None = None,
) -> ChunkSnapshot:
    """Read everything that the decisions depend on.

    `lookup` are the addresses of a list that is stored nowhere; its new ones are still to be
    created. With `lock_all`, every address is locked first, in id order. Otherwise an import locks
    the addresses at both ends of a propagation, so that no contact is linked to them unseen. It
    locks no role addresses, whose opt-out is not propagated to later contacts. All other actions
    lock nothing: a change checks that the address is still as it was read.

    Raises ConcurrentLink if contacts were created, or linked to a shared address of the chunk, in
    the meantime. The transaction must then be rolled back and begun again.
    """
    reader = _ChunkReader(connection, job, action, params, shared_address_limit, lock_all)
    return await reader.read(chunk, lookup)


class _LinkedAddresses(NamedTuple):
    """The links of a chunk, their addresses, and the siblings of the shared ones among these."""

    links: list[Link]
    addresses: dict[int, AddressRow]
    versions: dict[int, int]
    sibling_links: dict[int, list[Link]]
    decided_at: datetime


class _ChunkReader(NamedTuple):
    connection: asyncpg.Connection
    job: JobToWork
    action: BulkAction
    params: Any
    limit: int
    lock_all: bool

    @property
    def lists_addresses(self) -> bool:
        """Whether the chunk's rows are addresses, and no contacts."""
        return self.job.fields == [LISTED_ADDRESS_FIELD]

    @property
    def min_contacts(self) -> int:
        """How many contacts an address has to be on to lead beyond the row at hand."""
        return 1 if self.lists_addresses else 2

    async def read(self, chunk: ClaimedChunk, given: ListLookup | None) -> ChunkSnapshot:
        lookup, listed, imported = given, None, ImportedRows()
        new_addresses: dict[int, AddressRow] = dict.fromkeys(given.new.ids, _NEW) if given else {}
        if self.lists_addresses:
            lookup = lookup or await self._resolve_listed(chunk)
            listed = [
                (item_id, LISTED_ADDRESS_FIELD, address_id)
                for item_id, address_id in zip(lookup.item_ids, lookup.address_ids, strict=True)
            ]
            new = frozenset(lookup.new.ids)
        else:
            imported = await self._create_contacts(chunk)
            new_addresses |= {
                id_: (None, None, None, people) for id_, people in imported.made.people.items()
            }
            new = frozenset(new_addresses)
        if self.lock_all or self.action.creates_contacts:
            read = await self._read_locked(chunk, listed, new_addresses, imported)
        elif lookup is not None and listed is not None:
            read = self._from_lookup(listed, lookup)
        else:
            read = await self._read_unlocked(chunk)
        links, addresses = read.links, read.addresses
        for id_ in new:
            addresses[id_] = (None, *addresses[id_][1:])
        selected = frozenset(self.job.fields)
        row_links = imported.row_links(links)
        selectable = links if row_links is None else row_links
        direct = {link[2] for link in selectable if link[1] in selected}
        if self.action.creates_contacts:
            addresses |= await self._with_final_contact_counts(direct, addresses, imported.stated)
        facts = ChunkFacts(
            job_id=self.job.id,
            fields=selected,
            shared_address_limit=self.limit,
            links=links,
            row_links=row_links,
            addresses=addresses,
            stated=imported.stated,
            missing=await self._find_missing(chunk, links),
            sibling_opted_out=await self._find_opted_out_siblings(links, direct, addresses),
            sibling_links=read.sibling_links,
            earlier_decisions=await self._find_earlier_decisions(direct, addresses),
        )
        contacts = None if self.lists_addresses else imported.recognized.matches
        return ChunkSnapshot(facts, read.decided_at, new, read.versions, contacts)

    def _from_lookup(self, listed: list[Link], lookup: ListLookup) -> _LinkedAddresses:
        """Return everything that was read without a lock when the listed addresses were
        looked up.
        """
        known = lookup.known
        return _LinkedAddresses(
            listed,
            addresses_by_id(known) | dict.fromkeys(lookup.new.ids, _NEW),
            versions_by_id(known),
            _group_by_source(lookup.sibling_links),
            known.decided_at,
        )

    async def _read_unlocked(self, chunk: ClaimedChunk) -> _LinkedAddresses:
        """Everything without a lock. Who comes to hold an address changes it too
        (`contact_count`), so that a neighbour who was not there yet is noticed when the address is
        changed.
        """
        account_id = self.job.account_id
        links, read = await chunk_addresses.read_links_and_addresses(
            self.connection, account_id, chunk.item_ids
        )
        addresses, versions, decided_at = (
            addresses_by_id(read),
            versions_by_id(read),
            read.decided_at,
        )
        sibling_links: dict[int, list[Link]] = {}
        if self._has_propagation():
            sibling_links = await self._read_siblings(self._shared(links, addresses))
            further = {link[2] for linked in sibling_links.values() for link in linked}
            further.difference_update(addresses)
            if further:
                read = await chunk_addresses.read_addresses(
                    self.connection, account_id, sorted(further)
                )
                addresses |= addresses_by_id(read)
                versions |= versions_by_id(read)
                decided_at = read.decided_at
        return _LinkedAddresses(links, addresses, versions, sibling_links, decided_at)

    async def _read_locked(
        self,
        chunk: ClaimedChunk,
        listed: list[Link] | None,
        new_addresses: Mapping[int, AddressRow],
        imported: ImportedRows,
    ) -> _LinkedAddresses:
        """Read everything under locks.

        Not locked are role addresses, where not all of them are, and the transaction's
        `new_addresses` addresses: those it has created or will create.
        """
        account_id = self.job.account_id
        links = listed
        if links is None:
            links = (
                await read_row_links(self.connection, account_id, chunk.item_ids, imported)
                if self.action.creates_contacts
                else await chunk_addresses.read_links(self.connection, account_id, chunk.item_ids)
            )
        wanted = {link[2] for link in links}
        if self._has_propagation():
            sibling_links = await self._read_siblings(
                {link[2] for link in links if link[1] in self.job.fields}
            )
            wanted |= {link[2] for linked in sibling_links.values() for link in linked}
        wanted.difference_update(new_addresses)
        read = await chunk_addresses.lock_addresses(
            self.connection,
            account_id,
            sorted(wanted),
            shared_address_limit=None if self.lock_all else self.limit,
        )
        addresses, versions = addresses_by_id(read), versions_by_id(read)
        roles = wanted.difference(addresses)
        if roles:
            # After the locks: no version that is known by now is then one of a later change.
            read = await chunk_addresses.read_addresses(self.connection, account_id, sorted(roles))
            addresses |= addresses_by_id(read)
            versions |= versions_by_id(read)
        addresses |= new_addresses
        if imported.made.version is not None:
            versions |= dict.fromkeys(imported.made.people, imported.made.version)
        sibling_links = {}
        if self._has_propagation():
            sibling_links = await self._reread_siblings(self._shared(links, addresses), addresses)
        return _LinkedAddresses(links, addresses, versions, sibling_links, read.decided_at)

    def _shared(self, links: list[Link], addresses: dict[int, AddressRow]) -> set[int]:
        """Return the selected addresses that contacts outside the chunk hold too, without role
        addresses.
        """
        fields, min_contacts, limit = self.job.fields, self.min_contacts, self.limit
        return {
            link[2]
            for link in links
            if min_contacts <= addresses[link[2]][3] <= limit and link[1] in fields
        }

    async def _resolve_listed(self, chunk: ClaimedChunk) -> ListLookup:
        return await address_lists.resolve_listed(
            self.connection,
            self.job.key,
            item_ids=chunk.item_ids,
            initial_status=self._initial_status(),
            shared_address_limit=sibling_link_limit(self.action, self.params, self.limit),
        )

    def _initial_status(self) -> Status:
        return initial_status(self.action, self.params)

    def _initial_statuses_by_stated(self) -> dict[str, str]:
        """Map each status that a file can state to the status it gives a new address."""
        if not self.action.reads_statuses(self.params):
            return {}
        return {stated: initial_status(self.action, self.params, stated) for stated in Status}

    async def _create_contacts(self, chunk: ClaimedChunk) -> ImportedRows:
        if not self.action.creates_contacts:
            return ImportedRows()
        return await create_contacts(
            self.connection,
            job=self.job,
            item_ids=chunk.item_ids,
            shared_address_limit=self.limit,
            initial_status=self._initial_status(),
            initial_statuses_by_stated=self._initial_statuses_by_stated(),
        )

    def _has_propagation(self) -> bool:
        return has_propagation(self.action, self.params)

    async def _read_siblings(self, address_ids: set[int]) -> dict[int, list[Link]]:
        if not address_ids:
            return {}
        return _group_by_source(
            await chunk_addresses.read_siblings(
                self.connection,
                self.job.account_id,
                sorted(address_ids),
                min_contacts=self.min_contacts,
                shared_address_limit=self.limit,
            )
        )

    async def _reread_siblings(
        self, shared: set[int], addresses: dict[int, AddressRow]
    ) -> dict[int, list[Link]]:
        """Read the siblings again, now that the locks keep anything from being linked to the
        addresses.
        """
        sibling_links = await self._read_siblings(shared)
        for linked in sibling_links.values():
            if any(link[2] not in addresses for link in linked):
                raise ConcurrentLink("contacts were linked to an address of the chunk meanwhile")
        return sibling_links

    async def _with_final_contact_counts(
        self, direct: set[int], addresses: dict[int, AddressRow], stated: Mapping[int, Status]
    ) -> dict[int, AddressRow]:
        """Return the opted-out addresses with the contact counts they have when the import is done.

        So the order of the import's chunks does not matter.
        """
        opted_out = [
            id_
            for id_ in direct
            if (
                (addresses[id_][0] in _OWN_RIGHT and addresses[id_][1] is None)
                or stated.get(id_) in _OWN_RIGHT
            )
            # A role address stays one, and to count its holders would take long.
            and addresses[id_][3] <= self.limit
        ]
        if not opted_out:
            return {}
        final_counts = await import_chunks.person_counts_by_the_end(
            self.connection, self.job.key, address_ids=opted_out
        )
        return {
            id_: (*addresses[id_][:3], max(addresses[id_][3], people))
            for id_, people in final_counts.items()
        }

    async def _find_missing(self, chunk: ClaimedChunk, links: list[Link]) -> list[int]:
        without_address = set(chunk.item_ids).difference(link[0] for link in links)
        if not without_address or self.action.creates_contacts:
            return []
        existing, holding = await chunk_addresses.find_existing_contacts(
            self.connection, self.job.account_id, sorted(without_address)
        )
        if holding:
            raise ConcurrentLink("contacts of the chunk were made since their links were read")
        return sorted(without_address.difference(existing))

    async def _find_opted_out_siblings(
        self, links: list[Link], direct: set[int], addresses: dict[int, AddressRow]
    ) -> frozenset[int]:
        """Return the addresses with a sibling whose opt-out is propagated, where the action asks
        for it.

        An address of one contact has only that contact's other addresses as siblings, and most of
        them are in memory. Only shared addresses need a look at other contacts.
        """
        if not self.action.checks_siblings:
            return frozenset()
        beside: set[int] = set()
        if not self.action.creates_contacts:
            propagating = self._propagating_opt_outs(addresses)
            if propagating:
                beside = _siblings_on_contacts(links, propagating)
        shared = self._filter_sibling_dependent(
            [id_ for id_ in direct if addresses[id_][3] > 1], addresses
        )
        if shared:
            beside.update(
                await chunk_addresses.find_with_opted_out_sibling(
                    self.connection,
                    self.job.key,
                    address_ids=shared,
                    own_right_statuses=OWN_RIGHT,
                    shared_address_limit=self.limit,
                )
            )
        return frozenset(beside)

    def _filter_sibling_dependent(
        self, address_ids: list[int], addresses: dict[int, AddressRow]
    ) -> list[int]:
        """Return the addresses whose decision an opted-out sibling would change."""
        depends: dict[tuple[Status | None, bool], bool] = {}
        found = []
        for id_ in address_ids:
            status, source, _, _ = addresses[id_]
            key = (status, source is not None)
            if key not in depends:
                alone = self.action.decide(AddressState(*key), self.params)
                beside = self.action.decide(AddressState(*key, sibling_opted_out=True), self.params)
                depends[key] = alone != beside
            if depends[key] and status is not None:
                found.append(id_)
        return found

    def _propagating_opt_outs(self, addresses: dict[int, AddressRow]) -> set[int]:
        """Return the addresses of the chunk's contacts whose own opt-out is propagated."""
        limit = self.limit
        return {
            id_
            for id_, (status, source, _, people) in addresses.items()
            if status in _OWN_RIGHT and source is None and people <= limit
        }

    async def _find_earlier_decisions(
        self, direct: set[int], addresses: dict[int, AddressRow]
    ) -> dict[int, Decision]:
        """Return this job's decisions on addresses that its own propagation has changed since."""
        if not self.action.creates_contacts:
            return {}
        changed = [
            id_
            for id_ in direct
            if addresses[id_][2] == self.job.id and addresses[id_][1] is not None
        ]
        if not changed:
            return {}
        return {
            id_: Decision(Outcome(outcome), Status(to_status) if to_status else None, reason)
            for id_, outcome, to_status, reason in await results.find_earlier_decisions(
                self.connection, self.job.key, changed
            )
        }


def initial_status(action: BulkAction, params: Any, stated: Status | None = None) -> Status:
    """Return the status that a job of this action gives an address that is new to the account."""
    first = action.decide(AddressState(status=None, stated=stated), params).to_status
    assert first is not None
    return first


def has_propagation(action: BulkAction, params: Any) -> bool:
    """Return whether a job of the action may change addresses of contacts that are not at hand."""
    if not action.may_propagate:
        return False
    spreads = (action.propagation(status, params) for status in OWN_RIGHT)
    return any(spread is not None and spread.beyond_chunk for spread in spreads)


def sibling_link_limit(action: BulkAction, params: Any, shared_address_limit: int) -> int:
    """Return the largest contact count with which a listed address's siblings matter."""
    return shared_address_limit if has_propagation(action, params) else 0


def _group_by_source(sibling_links: Iterable[Sibling]) -> dict[int, list[Link]]:
    linked: dict[int, list[Link]] = {}
    for source, contact, field, address in sibling_links:
        linked.setdefault(source, []).append((contact, field, address))
    return linked


def _siblings_on_contacts(links: list[Link], propagating: set[int]) -> set[int]:
    """Return the addresses with a propagating sibling on a contact of the chunk."""
    propagating_by_contact: dict[int, set[int]] = {}
    for contact_id, _, address_id in links:
        if address_id in propagating:
            propagating_by_contact.setdefault(contact_id, set()).add(address_id)
    return {
        address_id
        for contact_id, _, address_id in links
        if contact_id in propagating_by_contact
        and propagating_by_contact[contact_id] - {address_id}
    }


_STATUSES = {status.value: status for status in Status}
"""Looking statuses up takes a tenth of the time of making each."""


def addresses_by_id(read: AddressColumns) -> dict[int, AddressRow]:
    """Map address ids to the addresses as the decisions need them."""
    statuses = map(_STATUSES.__getitem__, read.statuses)
    columns = zip(statuses, read.sources, read.job_ids, read.people, strict=True)
    return dict(zip(read.ids, columns, strict=True))


def versions_by_id(read: AddressColumns) -> dict[int, int]:
    """Map address ids to the addresses' versions."""
    return dict(zip(read.ids, read.versions, strict=True))
