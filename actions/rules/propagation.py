"""How the opt-out of one address reaches the other addresses of its people.

Pure, and part of the hot loop of `actions/rules/chunk_decisions.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from actions.bulk_action import BulkAction, Propagation
from actions.rules.chunk import ChunkDecisions, ChunkFacts, Link, ResultRow
from schemas.outcomes import Cause, Outcome
from schemas.statuses import FACTS, OPTED_OUT, OWN_RIGHT_RANK, Status, rank_of

_PROPAGATED_RANKS = {
    status: facts.propagated_rank
    for status, facts in FACTS.items()
    if facts.propagated_rank is not None
}


def propagate_opt_outs(
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    direct: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    """Propagate every opt-out in its own right among the selected addresses to their siblings.

    The strongest goes first, so that an address is changed once. A propagated opt-out is not
    propagated further, since it is not in its own right.
    """
    propagation_targets = _propagation_targets(action, params, facts, decided)
    if propagation_targets:
        contacts_of = _contacts_by_source(facts, direct, decided)
        _propagate_from(contacts_of, propagation_targets, action, params, facts, decided)


def propagate_after_import(
    action: BulkAction, params: Any, facts: ChunkFacts, contacts_of: Mapping[int, Sequence[int]]
) -> ChunkDecisions:
    """Let the opt-outs of some addresses reach the other addresses of the given contacts.

    For the end of an import, when an address turns out to be no role address. What another opt-out
    has reached before stays as it is: it has its one propagated row in this job.
    """
    decided = ChunkDecisions()
    propagation_targets = {
        id_
        for id_ in _propagation_targets(action, params, facts, decided)
        if facts.addresses[id_][0] not in OPTED_OUT
    }
    _propagate_from(contacts_of, propagation_targets, action, params, facts, decided)
    return decided


def _propagate_from(  # noqa: PLR0917
    contacts_of: Mapping[int, Sequence[int]],
    propagation_targets: set[int],
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    decided: ChunkDecisions,
) -> None:
    by_strength: dict[Status, list[int]] = {}
    for source_id in contacts_of:
        by_strength.setdefault(_current_status(source_id, facts, decided), []).append(source_id)
    spreads = [
        (spread, sources)
        for status, sources in by_strength.items()
        if (spread := action.propagation(status, params)) is not None
    ]
    spreads.sort(key=lambda pair: -rank_of(pair[0].to_status, is_propagated=True))
    links_of = _links_by_contact(facts, propagation_targets)
    for spread, sources in spreads:
        targets = (
            (source_id, link)
            for source_id in sorted(sources)
            for link in _sibling_links(spread, source_id, facts, contacts_of[source_id], links_of)
            if link[2] in propagation_targets and link[2] != source_id
        )
        _write_propagated(targets, spread.to_status, facts, decided)


class _StatusesBelow(NamedTuple):
    """The statuses below a propagated one: those in an address's own right, and propagated ones."""

    own: frozenset[Status]
    spread: frozenset[Status]


def _statuses_below(rank: int) -> _StatusesBelow:
    own = (status for status, facts in FACTS.items() if facts.rank < rank)
    spread = (
        status for status, propagated_rank in _PROPAGATED_RANKS.items() if propagated_rank < rank
    )
    return _StatusesBelow(frozenset(own), frozenset(spread))


_STATUSES_BELOW = {status: _statuses_below(rank) for status, rank in _PROPAGATED_RANKS.items()}
"""What each status climbs over when it spreads."""


def outranks(to_status: Status, status: Status, *, is_propagated: bool) -> bool:
    """Return whether an opt-out propagated as `to_status` changes an address of this status.

    The present status may have been propagated too.
    """
    own, propagated = _STATUSES_BELOW[to_status]
    return status in (propagated if is_propagated else own)


_OWN_RIGHT_STATUSES = frozenset(
    status for status, facts in FACTS.items() if facts.rank >= OWN_RIGHT_RANK
)


def _propagation_targets(
    action: BulkAction, params: Any, facts: ChunkFacts, decided: ChunkDecisions
) -> set[int]:
    """Return the addresses that propagation could change, as they are now.

    There are none if every sibling of the selected addresses is selected too, and is therefore
    opted out in its own right. Suppression only climbs, so none are added during propagation.
    """
    spreads = (action.propagation(status, params) for status in OPTED_OUT)
    to_statuses = {spread.to_status for spread in spreads if spread}
    if not to_statuses:
        return set()
    own, spread = _STATUSES_BELOW[max(to_statuses, key=_PROPAGATED_RANKS.__getitem__)]
    changes = decided.changes
    reach = {
        id_
        for id_, (status, source, _, _) in facts.addresses.items()
        if status in (own if source is None else spread) and id_ not in changes
    }
    reach.update(
        id_
        for id_, (_, to_status, source) in changes.items()
        if to_status in (own if source is None else spread)
    )
    return reach


def _contacts_by_source(
    facts: ChunkFacts, direct: Sequence[Link], decided: ChunkDecisions
) -> dict[int, list[int]]:
    """Map each selected address that is now opted out in its own right to the contacts that hold
    it.
    """
    contacts_of: dict[int, list[int]] = {}
    addresses, changes = facts.addresses, decided.changes
    for contact_id, _, address_id in direct:
        known = contacts_of.get(address_id)
        if known is not None:
            known.append(contact_id)
            continue
        change = changes.get(address_id)
        status, source = addresses[address_id][:2] if change is None else change[1:]
        if source is None and status in _OWN_RIGHT_STATUSES:
            contacts_of[address_id] = [contact_id]
    return contacts_of


def _links_by_contact(facts: ChunkFacts, address_ids: set[int]) -> dict[int, list[Link]]:
    links_of: dict[int, list[Link]] = {}
    for link in facts.links:
        if link[2] in address_ids:
            links_of.setdefault(link[0], []).append(link)
    return links_of


def _current_status(address_id: int, facts: ChunkFacts, decided: ChunkDecisions) -> Status:
    """Return the status of an address after the decisions so far."""
    change = decided.changes.get(address_id)
    status = facts.addresses[address_id][0] if change is None else change[1]
    assert status is not None
    return status


def _sibling_links(
    spread: Propagation,
    source_id: int,
    facts: ChunkFacts,
    contacts: Sequence[int],
    links_of: Mapping[int, Sequence[Link]],
) -> Sequence[Link]:
    """Return the links to which the opt-out of the source is propagated."""
    people = facts.addresses[source_id][3]
    if people > facts.shared_address_limit:
        if not spread.role_propagates_to_selected:
            return ()
    elif spread.beyond_chunk and source_id in facts.sibling_links:
        return facts.sibling_links[source_id]
    if len(contacts) == 1:
        return links_of.get(contacts[0], ())
    return [link for contact_id in contacts for link in links_of.get(contact_id, ())]


def _write_propagated(
    targets: Iterable[tuple[int, Link]],
    to_status: Status,
    facts: ChunkFacts,
    decided: ChunkDecisions,
) -> None:
    """Change the addresses of the links, with the source of the propagation and the new status.

    The first source that changes an address gets the credit.
    """
    own, spread = _STATUSES_BELOW[to_status]
    addresses, changes = facts.addresses, decided.changes
    rows: dict[Status | None, list[ResultRow]] = {}
    for source_id, (contact_id, field_no, address_id) in targets:
        change = changes.get(address_id)
        status, source = addresses[address_id][:2] if change is None else change[1:]
        if status not in (own if source is None else spread):
            continue
        changes[address_id] = (status, to_status, source_id)
        rows.setdefault(status, []).append((contact_id, field_no, address_id, source_id))
    for status, reached in rows.items():
        ending = (Outcome.APPLIED, None, status, to_status, Cause.PROPAGATED)
        decided.rows.setdefault(ending, []).extend(reached)
