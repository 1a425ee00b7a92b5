"""Reading what the decisions of a chunk depend on."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from actions.bulk_action import BulkAction
from actions.rules.chunk import Address, ChunkFacts, Link
from db import address_lists, chunks, import_chunks
from db.address_lists import Found
from db.chunks import AddressColumns, ClaimedChunk, Neighbour
from db.progress import JobToWork
from engine.sources.import_rows import Arrived, arrive, links_of_rows
from schemas.decisions import Decision, Known
from schemas.errors import LinksChanged
from schemas.outcomes import Outcome
from schemas.requests import THE_ADDRESS
from schemas.statuses import FACTS, OWN_RIGHT_RANK, Status

OWN_RIGHT = tuple(status for status, facts in FACTS.items() if facts.rank >= OWN_RIGHT_RANK)
_OWN_RIGHT = frozenset(OWN_RIGHT)

_NEW: Address = (None, None, None, 0)
"""What is known of an address that the account did not know."""


class Gathered(NamedTuple):
    """The facts, when they were true, and the addresses that the chunk brought in.

    `versions` tell whether an address is still as it was read.
    """

    facts: ChunkFacts
    decided_at: datetime
    new: frozenset[int]
    versions: Mapping[int, int]


async def gather(
    connection: asyncpg.Connection,
    *,
    job: JobToWork,
    action: BulkAction,
    params: Any,
    chunk: ClaimedChunk,
    shared_address_limit: int,
    lock_all: bool,
    found: Found | None = None,
) -> Gathered:
    """Read everything that the decisions depend on. `found` are the addresses of a list that was
    never kept, of which the new ones are still to be made.

    With `lock_all` every address is locked first, in the order of ids. Otherwise an import locks
    what a spread may start from or reach, since nobody may come to hold such an address unseen,
    but for role addresses, whose spread whoever comes to hold one is not reached by; and all other
    actions lock nothing: that an address is still as it was read is checked when it is changed.

    Raises LinksChanged when contacts were made, or linked to a shared address of the chunk, in the
    meantime; the transaction is then to be rolled back and begun again.
    """
    reader = _Reader(connection, job, action, params, shared_address_limit, lock_all)
    return await reader.gather(chunk, found)


class _Read(NamedTuple):
    """The links of a chunk, their addresses, and whom shared ones among these stand beside."""

    links: list[Link]
    addresses: dict[int, Address]
    versions: dict[int, int]
    neighbours: dict[int, list[Link]]
    decided_at: datetime


class _Reader(NamedTuple):
    connection: asyncpg.Connection
    job: JobToWork
    action: BulkAction
    params: Any
    limit: int
    lock_all: bool

    @property
    def lists_addresses(self) -> bool:
        """Whether the chunk's rows are addresses, and no contacts."""
        return self.job.fields == [THE_ADDRESS]

    @property
    def fewest(self) -> int:
        """How many contacts an address has to be on to lead beyond the row at hand."""
        return 1 if self.lists_addresses else 2

    async def gather(self, chunk: ClaimedChunk, given: Found | None) -> Gathered:
        found, listed, arrived = given, None, Arrived()
        own: dict[int, Address] = dict.fromkeys(given.new.ids, _NEW) if given else {}
        if self.lists_addresses:
            found = found or await self._resolve(chunk)
            listed = [
                (row_id, THE_ADDRESS, address_id)
                for row_id, address_id in zip(found.row_ids, found.address_ids, strict=True)
            ]
            new = frozenset(found.new.ids)
        else:
            arrived = await self._arrive(chunk)
            own |= {id_: (None, None, None, people) for id_, people in arrived.made.people.items()}
            new = frozenset(own)
        if self.lock_all or self.action.brings_contacts:
            read = await self._lock(chunk, listed, own, arrived)
        elif found is not None and listed is not None:
            read = self._as_found(listed, found)
        else:
            read = await self._look(chunk)
        links, addresses = read.links, read.addresses
        for id_ in new:
            addresses[id_] = (None, *addresses[id_][1:])
        selected = frozenset(self.job.fields)
        of_rows = arrived.of_rows(links)
        selectable = links if of_rows is None else of_rows
        direct = {link[2] for link in selectable if link[1] in selected}
        if self.action.brings_contacts:
            addresses |= await self._as_by_the_end(direct, addresses, arrived.stated)
        facts = ChunkFacts(
            job_id=self.job.id,
            fields=selected,
            shared_address_limit=self.limit,
            links=links,
            of_rows=of_rows,
            addresses=addresses,
            stated=arrived.stated,
            missing=await self._missing(chunk, links),
            beside_opt_out=await self._beside_opt_out(links, direct, addresses),
            neighbours=read.neighbours,
            decided_before=await self._decided_before(direct, addresses),
        )
        return Gathered(facts, read.decided_at, new, read.versions)

    def _as_found(self, listed: list[Link], found: Found) -> _Read:
        """Everything that was read without a lock when the listed addresses were looked for."""
        known = found.known
        return _Read(
            listed,
            by_id(known) | dict.fromkeys(found.new.ids, _NEW),
            versions_of(known),
            _by_source(found.neighbours),
            known.decided_at,
        )

    async def _look(self, chunk: ClaimedChunk) -> _Read:
        """Everything without a lock. Who comes to hold an address changes it too (`holders`), so
        that a neighbour who was not there yet is noticed when the address is changed.
        """
        account_id = self.job.account_id
        links, read = await chunks.read_chunk(self.connection, account_id, chunk.contact_ids)
        addresses, versions, decided_at = by_id(read), versions_of(read), read.decided_at
        neighbours: dict[int, list[Link]] = {}
        if self._reaches_beyond():
            neighbours = await self._neighbours(self._shared(links, addresses))
            further = {link[2] for around in neighbours.values() for link in around}
            further.difference_update(addresses)
            if further:
                read = await chunks.read_addresses(self.connection, account_id, sorted(further))
                addresses |= by_id(read)
                versions |= versions_of(read)
                decided_at = read.decided_at
        return _Read(links, addresses, versions, neighbours, decided_at)

    async def _lock(
        self,
        chunk: ClaimedChunk,
        listed: list[Link] | None,
        own: Mapping[int, Address],
        arrived: Arrived,
    ) -> _Read:
        """Everything under locks, but for the role addresses where not all are locked, and for
        the transaction's `own` addresses: those that it has made, and those still to be made.
        """
        account_id = self.job.account_id
        links = listed
        if links is None:
            links = (
                await links_of_rows(self.connection, account_id, chunk.contact_ids, arrived)
                if self.action.brings_contacts
                else await chunks.links_of_contacts(self.connection, account_id, chunk.contact_ids)
            )
        wanted = {link[2] for link in links}
        if self._reaches_beyond():
            neighbours = await self._neighbours(
                {link[2] for link in links if link[1] in self.job.fields}
            )
            wanted |= {link[2] for around in neighbours.values() for link in around}
        wanted.difference_update(own)
        read = await chunks.lock_addresses(
            self.connection,
            account_id,
            sorted(wanted),
            shared_address_limit=None if self.lock_all else self.limit,
        )
        addresses, versions = by_id(read), versions_of(read)
        roles = wanted.difference(addresses)
        if roles:
            # After the locks: no version that is known by now is then one of a later change.
            read = await chunks.read_addresses(self.connection, account_id, sorted(roles))
            addresses |= by_id(read)
            versions |= versions_of(read)
        addresses |= own
        if arrived.made.version is not None:
            versions |= dict.fromkeys(arrived.made.people, arrived.made.version)
        neighbours = {}
        if self._reaches_beyond():
            neighbours = await self._neighbours_again(self._shared(links, addresses), addresses)
        return _Read(links, addresses, versions, neighbours, read.decided_at)

    def _shared(self, links: list[Link], addresses: dict[int, Address]) -> set[int]:
        """The selected addresses that lead beyond the chunk, and that are no role addresses."""
        fields, fewest, limit = self.job.fields, self.fewest, self.limit
        return {
            link[2]
            for link in links
            if fewest <= addresses[link[2]][3] <= limit and link[1] in fields
        }

    async def _resolve(self, chunk: ClaimedChunk) -> Found:
        return await address_lists.resolve_listed(
            self.connection,
            account_id=self.job.account_id,
            job_id=self.job.id,
            row_ids=chunk.contact_ids,
            first_status=self._first_status(),
            shared_address_limit=neighbours_up_to(self.action, self.params, self.limit),
        )

    def _first_status(self) -> Status:
        return first_status(self.action, self.params)

    def _stated_first(self) -> dict[str, str]:
        """The first status of an address for which the file states one, by what it states."""
        if not self.action.reads_statuses(self.params):
            return {}
        return {stated: first_status(self.action, self.params, stated) for stated in Status}

    async def _arrive(self, chunk: ClaimedChunk) -> Arrived:
        if not self.action.brings_contacts:
            return Arrived()
        return await arrive(
            self.connection,
            job=self.job,
            contact_ids=chunk.contact_ids,
            shared_address_limit=self.limit,
            first_status=self._first_status(),
            stated_first=self._stated_first(),
        )

    def _reaches_beyond(self) -> bool:
        return reaches_beyond(self.action, self.params)

    async def _neighbours(self, address_ids: set[int]) -> dict[int, list[Link]]:
        if not address_ids:
            return {}
        return _by_source(
            await chunks.neighbours(
                self.connection,
                self.job.account_id,
                sorted(address_ids),
                fewest=self.fewest,
                shared_address_limit=self.limit,
            )
        )

    async def _neighbours_again(
        self, shared: set[int], addresses: dict[int, Address]
    ) -> dict[int, list[Link]]:
        """The neighbours as they are now that nobody can link to the locked addresses any more."""
        neighbours = await self._neighbours(shared)
        for around in neighbours.values():
            if any(link[2] not in addresses for link in around):
                raise LinksChanged("contacts were linked to an address of the chunk meanwhile")
        return neighbours

    async def _as_by_the_end(
        self, direct: set[int], addresses: dict[int, Address], stated: Mapping[int, Status]
    ) -> dict[int, Address]:
        """The opted-out addresses with the people they will have when the import is done, so that
        it does not matter which of its chunks come first.
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
        by_the_end = await import_chunks.people_by_the_end(
            self.connection,
            account_id=self.job.account_id,
            job_id=self.job.id,
            address_ids=opted_out,
        )
        return {
            id_: (*addresses[id_][:3], max(addresses[id_][3], people))
            for id_, people in by_the_end.items()
        }

    async def _missing(self, chunk: ClaimedChunk, links: list[Link]) -> list[int]:
        without_address = set(chunk.contact_ids).difference(link[0] for link in links)
        if not without_address or self.action.brings_contacts:
            return []
        existing, holding = await chunks.existing_contacts(
            self.connection, self.job.account_id, sorted(without_address)
        )
        if holding:
            raise LinksChanged("contacts of the chunk were made since their links were read")
        return sorted(without_address.difference(existing))

    async def _beside_opt_out(
        self, links: list[Link], direct: set[int], addresses: dict[int, Address]
    ) -> frozenset[int]:
        """The addresses, of those for which it matters, that an opt-out spreads to.

        An address on one contact can only stand beside that contact's other addresses, most of
        which are at hand; only the shared ones need a look at other contacts.
        """
        if not self.action.refused_beside_opt_out:
            return frozenset()
        beside: set[int] = set()
        if not self.action.brings_contacts:
            spreading = self._spreading(addresses)
            if spreading:
                beside = _beside(links, spreading)
        shared = self._that_mind([id_ for id_ in direct if addresses[id_][3] > 1], addresses)
        if shared:
            beside.update(
                await chunks.beside_opt_out(
                    self.connection,
                    account_id=self.job.account_id,
                    job_id=self.job.id,
                    address_ids=shared,
                    own_right_statuses=OWN_RIGHT,
                    shared_address_limit=self.limit,
                )
            )
        return frozenset(beside)

    def _that_mind(self, address_ids: list[int], addresses: dict[int, Address]) -> list[int]:
        """Those whose decision an opt-out beside them would change."""
        minds: dict[tuple[Status | None, bool], bool] = {}
        found = []
        for id_ in address_ids:
            status, source, _, _ = addresses[id_]
            key = (status, source is not None)
            if key not in minds:
                alone = self.action.decide(Known(*key), self.params)
                beside = self.action.decide(Known(*key, beside_opt_out=True), self.params)
                minds[key] = alone != beside
            if minds[key] and status is not None:
                found.append(id_)
        return found

    def _spreading(self, addresses: dict[int, Address]) -> set[int]:
        """The addresses of the chunk's contacts whose own opt-out spreads."""
        limit = self.limit
        return {
            id_
            for id_, (status, source, _, people) in addresses.items()
            if status in _OWN_RIGHT and source is None and people <= limit
        }

    async def _decided_before(
        self, direct: set[int], addresses: dict[int, Address]
    ) -> dict[int, Decision]:
        """What this job decided on addresses that its own spreading has changed since."""
        if not self.action.brings_contacts:
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
            for id_, outcome, to_status, reason in await chunks.decided_before(
                self.connection, self.job.id, changed
            )
        }


def first_status(action: BulkAction, params: Any, stated: Status | None = None) -> Status:
    """The status of an address that a job of the action brings into the account."""
    first = action.decide(Known(status=None, stated=stated), params).to_status
    assert first is not None
    return first


def reaches_beyond(action: BulkAction, params: Any) -> bool:
    """Whether a job of the action may change addresses of contacts that are not at hand."""
    if not action.may_spread:
        return False
    spreads = (action.spread(status, params) for status in OWN_RIGHT)
    return any(spread is not None and spread.beyond_chunk for spread in spreads)


def neighbours_up_to(action: BulkAction, params: Any, shared_address_limit: int) -> int:
    """Up to how many contacts may hold an address of a list, for its neighbours to matter."""
    return shared_address_limit if reaches_beyond(action, params) else 0


def _by_source(neighbours: Iterable[Neighbour]) -> dict[int, list[Link]]:
    around: dict[int, list[Link]] = {}
    for source, contact, field, address in neighbours:
        around.setdefault(source, []).append((contact, field, address))
    return around


def _beside(links: list[Link], spreading: set[int]) -> set[int]:
    """The addresses that stand beside a spreading one on a contact of the chunk."""
    spreading_on: dict[int, set[int]] = {}
    for contact_id, _, address_id in links:
        if address_id in spreading:
            spreading_on.setdefault(contact_id, set()).add(address_id)
    return {
        address_id
        for contact_id, _, address_id in links
        if contact_id in spreading_on and spreading_on[contact_id] - {address_id}
    }


def by_id(read: AddressColumns) -> dict[int, Any]:
    """Addresses as the decisions want them."""
    columns = zip(read.statuses, read.sources, read.job_ids, read.people, strict=True)
    return dict(zip(read.ids, columns, strict=True))


def versions_of(read: AddressColumns) -> dict[int, int]:
    """The addresses' versions by their ids."""
    return dict(zip(read.ids, read.versions, strict=True))
