"""What becomes of every address of a chunk: the action's decisions, and how opt-outs spread.

Pure: from the facts that were read for a chunk to rows and changes to be written. This is the
hot loop; decisions are remembered per set of facts, so that the action is asked a handful
of times per chunk and not once per address.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from actions.bulk_action import BulkAction, Spread
from schemas.decisions import Decision, Known
from schemas.errors import ForbiddenTransition
from schemas.outcomes import Cause, Outcome, Reason
from schemas.statuses import (
    FACTS,
    OPTED_OUT,
    OPTED_OUT_RANK,
    OWN_RIGHT_RANK,
    Status,
    rank_of,
)

Address: TypeAlias = tuple[Status | None, int | None, int | None, int]
"""What is read of an address: status (None for one that the chunk brings in), the address
that it spread from, the job that set it, and how many contacts hold it. A plain tuple, like the
next ones: a chunk has thousands of each."""

Link: TypeAlias = tuple[int, int, int]
"""A contact holds an address in a field: contact id, field (1 to 3), address id."""

Ending: TypeAlias = tuple[Outcome, str | None, Status | None, Status | None, Cause]
"""How a selected address ended: outcome, reason, from status, to status, cause."""

Row: TypeAlias = tuple[int, int, int | None, int | None]
"""One result row, apart from its ending: contact id, field, address id, source address id."""

Change: TypeAlias = tuple[Status | None, Status, int | None]
"""An address gets a status: from status, to status, and the address whose opt-out spread to it."""


@dataclass(frozen=True, slots=True)
class ChunkFacts:
    """All that the decisions of a chunk depend on.

    `links` are the links of the chunk's contacts that matter: those of the selected fields, and
    for an action that may spread those of all fields, in order of (contact, field). `missing`
    are the ids that the account has no contact for. `beside_opt_out` are the addresses that an
    opt-out in its own right spreads to. `neighbours` gives, for a shared address that is no role
    address, the links of every contact that holds it to their other addresses. `decided_before`
    gives the direct decision that this job took on an address in an earlier chunk, for addresses
    that its own spreading changed since.
    """

    job_id: int
    fields: frozenset[int]
    shared_address_limit: int
    links: Sequence[Link]
    addresses: Mapping[int, Address]
    missing: Sequence[int] = ()
    beside_opt_out: frozenset[int] = frozenset()
    neighbours: Mapping[int, Sequence[Link]] = field(default_factory=dict)
    decided_before: Mapping[int, Decision] = field(default_factory=dict)


@dataclass(slots=True)
class ChunkDecisions:
    """The rows to write, by their ending, and the last change of each address that changes.

    A chunk has thousands of rows and a dozen endings; none is left without a row.
    """

    rows: dict[Ending, list[Row]] = field(default_factory=dict)
    changes: dict[int, Change] = field(default_factory=dict)


_SAME_ADDRESS = Decision(Outcome.UNCHANGED, None, Reason.SAME_ADDRESS_IN_JOB)


_SPREAD_RANKS = {
    status: facts.spread_rank for status, facts in FACTS.items() if facts.spread_rank is not None
}


def decide_chunk(action: BulkAction, params: Any, facts: ChunkFacts) -> ChunkDecisions:
    """Decide every selected address of the chunk, then let opt-outs spread.

    Raises ForbiddenTransition when the action would reopen an opt-out, and whatever the action's
    own `decide` raises.
    """
    decided = ChunkDecisions()
    selected = facts.fields
    direct = [link for link in facts.links if link[1] in selected]
    _decide_direct(action, params, facts, direct, decided)
    if action.may_spread:
        _spread(action, params, facts, direct, decided)
    if facts.missing:
        fields = sorted(facts.fields)
        decided.rows.setdefault(_NOT_FOUND, []).extend(
            (contact_id, field_no, None, None)
            for contact_id in facts.missing
            for field_no in fields
        )
    return decided


_NOT_FOUND: Ending = (Outcome.REJECTED, Reason.CONTACT_NOT_FOUND, None, None, Cause.DIRECT)


class _Kind(NamedTuple):
    """What all addresses of which the same is known have in common: the decision, the change that
    it makes, and the rows that end so.
    """

    decision: Decision
    change: Change | None
    rows: list[Row]


def _decide_direct(
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    direct: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    first: dict[int, Decision] = {}
    kinds: dict[tuple[Status | None, bool, bool], _Kind] = {}
    addresses, beside, job_id = facts.addresses, facts.beside_opt_out, facts.job_id
    changes = decided.changes
    for contact_id, field_no, address_id in direct:
        status, source, status_job_id, _ = addresses[address_id]
        if address_id in first or (status_job_id == job_id and status is not None):
            decision = _decided_before(address_id, first, facts)
            if decision is not None:
                if decision is _SAME_ADDRESS and address_id in changes:
                    status = changes[address_id][1]
                first[address_id] = decision
                ending = (decision[0], decision[2], status, decision[1], Cause.DIRECT)
                rows = decided.rows.setdefault(ending, [])
                rows.append((contact_id, field_no, address_id, None))
                continue
        key = (status, source is not None, address_id in beside)
        kind = kinds.get(key)
        if kind is None:
            kind = kinds[key] = _kind(_ask(action, params, Known(*key)), status, decided)
        decision, change, rows = kind
        first[address_id] = decision
        if change is not None:
            changes[address_id] = change
        rows.append((contact_id, field_no, address_id, None))


def _kind(decision: Decision, status: Status | None, decided: ChunkDecisions) -> _Kind:
    outcome, to_status, reason = decision
    change = None
    if outcome is Outcome.APPLIED:
        assert to_status is not None
        change = (status, to_status, None)
    ending = (outcome, reason, status, to_status, Cause.DIRECT)
    return _Kind(decision, change, decided.rows.setdefault(ending, []))


def _decided_before(
    address_id: int, first: Mapping[int, Decision], facts: ChunkFacts
) -> Decision | None:
    """What this job's decision on the address means for its further rows, if there was one: in this
    chunk, or in an earlier one.
    """
    decision = first.get(address_id)
    if decision is None:
        return _decided_by_this_job(address_id, facts.addresses[address_id][1], facts)
    return _SAME_ADDRESS if decision.outcome is Outcome.APPLIED else decision


def _decided_by_this_job(address_id: int, source: int | None, facts: ChunkFacts) -> Decision | None:
    """What an earlier chunk's decision on the address means for its further rows, if it had one."""
    if source is None:
        return _SAME_ADDRESS
    earlier = facts.decided_before.get(address_id)
    if earlier is not None and earlier.outcome is Outcome.APPLIED:
        return _SAME_ADDRESS
    return earlier


def _ask(action: BulkAction, params: Any, known: Known) -> Decision:
    decision = action.decide(known, params)
    if (
        known.status is not None
        and decision.to_status is not None
        and decision.to_status not in OPTED_OUT
        and rank_of(Status(known.status), spread=known.spread) >= OPTED_OUT_RANK
    ):
        raise ForbiddenTransition(
            f"The action {action.name} would make an address {decision.to_status} that is"
            f" {known.status}; no bulk action may reopen an opt-out. Nothing of this chunk was"
            " changed. Mend the action's decide()."
        )
    return decision


def _spread(
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    direct: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    """Let every opt-out in its own right among the selected addresses reach the others.

    The strongest goes first, so that an address is reached once; one hop only, since what is
    reached is not opted out in its own right.
    """
    within_reach = _within_reach(action, params, facts, decided)
    if within_reach:
        contacts_of = _contacts_by_source(facts, direct, decided)
        _spread_from(contacts_of, within_reach, action, params, facts, decided)


def spread_after_all(
    action: BulkAction, params: Any, facts: ChunkFacts, contacts_of: Mapping[int, Sequence[int]]
) -> ChunkDecisions:
    """Let the opt-outs of some addresses reach the other addresses of the given contacts.

    For the end of an import, when an address turns out to be no role address. What another opt-out
    has reached before stays as it is: it has its one propagated row in this job.
    """
    decided = ChunkDecisions()
    within_reach = {
        id_
        for id_ in _within_reach(action, params, facts, decided)
        if facts.addresses[id_][0] not in OPTED_OUT
    }
    _spread_from(contacts_of, within_reach, action, params, facts, decided)
    return decided


def _spread_from(  # noqa: PLR0917
    contacts_of: Mapping[int, Sequence[int]],
    within_reach: set[int],
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    decided: ChunkDecisions,
) -> None:
    by_strength: dict[Status, list[int]] = {}
    for source_id in contacts_of:
        by_strength.setdefault(_present(source_id, facts, decided), []).append(source_id)
    spreads = [
        (spread, sources)
        for status, sources in by_strength.items()
        if (spread := action.spread(status, params)) is not None
    ]
    spreads.sort(key=lambda pair: -rank_of(pair[0].to_status, spread=True))
    links_of = _links_by_contact(facts, within_reach)
    for spread, sources in spreads:
        targets = (
            (source_id, link)
            for source_id in sorted(sources)
            for link in _targets(spread, source_id, facts, contacts_of[source_id], links_of)
            if link[2] in within_reach and link[2] != source_id
        )
        _reach(targets, spread.to_status, facts, decided)


class _Lower(NamedTuple):
    """The statuses below some spread: those in an address's own right, and those that spread to
    it.
    """

    own: frozenset[Status]
    spread: frozenset[Status]


def _lower_than(rank: int) -> _Lower:
    own = (status for status, facts in FACTS.items() if facts.rank < rank)
    spread = (status for status, spread_rank in _SPREAD_RANKS.items() if spread_rank < rank)
    return _Lower(frozenset(own), frozenset(spread))


_LOWER = {status: _lower_than(rank) for status, rank in _SPREAD_RANKS.items()}
"""What each status climbs over when it spreads."""

_IN_OWN_RIGHT = frozenset(status for status, facts in FACTS.items() if facts.rank >= OWN_RIGHT_RANK)


def _within_reach(
    action: BulkAction, params: Any, facts: ChunkFacts, decided: ChunkDecisions
) -> set[int]:
    """The addresses that some spread of the action could change, as they are now.

    There are none where all that stands beside the selected addresses is selected too, and so is
    opted out in its own right. Suppression only climbs, so none come to be during the spread.
    """
    spreads = (action.spread(status, params) for status in OPTED_OUT)
    to_statuses = {spread.to_status for spread in spreads if spread}
    if not to_statuses:
        return set()
    own, spread = _LOWER[max(to_statuses, key=_SPREAD_RANKS.__getitem__)]
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
    """The selected addresses that are opted out in their own right now, and through whom."""
    contacts_of: dict[int, list[int]] = {}
    addresses, changes = facts.addresses, decided.changes
    for contact_id, _, address_id in direct:
        known = contacts_of.get(address_id)
        if known is not None:
            known.append(contact_id)
            continue
        change = changes.get(address_id)
        status, source = addresses[address_id][:2] if change is None else change[1:]
        if source is None and status in _IN_OWN_RIGHT:
            contacts_of[address_id] = [contact_id]
    return contacts_of


def _links_by_contact(facts: ChunkFacts, address_ids: set[int]) -> dict[int, list[Link]]:
    links_of: dict[int, list[Link]] = {}
    for link in facts.links:
        if link[2] in address_ids:
            links_of.setdefault(link[0], []).append(link)
    return links_of


def _present(address_id: int, facts: ChunkFacts, decided: ChunkDecisions) -> Status:
    """The status that an address has by now."""
    change = decided.changes.get(address_id)
    status = facts.addresses[address_id][0] if change is None else change[1]
    assert status is not None
    return status


def _targets(
    spread: Spread,
    source_id: int,
    facts: ChunkFacts,
    contacts: Sequence[int],
    links_of: Mapping[int, Sequence[Link]],
) -> Sequence[Link]:
    """The links of those whom the opt-out of the source reaches."""
    holders = facts.addresses[source_id][3]
    if holders > facts.shared_address_limit:
        if not spread.role_reaches_selected:
            return ()
    elif spread.beyond_chunk and holders > 1:
        return facts.neighbours.get(source_id, ())
    if len(contacts) == 1:
        return links_of.get(contacts[0], ())
    return [link for contact_id in contacts for link in links_of.get(contact_id, ())]


def _reach(
    targets: Iterable[tuple[int, Link]],
    to_status: Status,
    facts: ChunkFacts,
    decided: ChunkDecisions,
) -> None:
    """Give the addresses of the links, each with the source of the spread, the status to which it
    climbs; the first that reaches an address has the credit.
    """
    own, spread = _LOWER[to_status]
    addresses, changes = facts.addresses, decided.changes
    rows: dict[Status | None, list[Row]] = {}
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
