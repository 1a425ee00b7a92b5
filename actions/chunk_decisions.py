"""What becomes of every address of a chunk: the action's decisions, and how opt-outs spread.

Pure: from facts that were read under the chunk's locks to rows and changes to be written. This
is the hot loop; decisions are remembered per set of facts, so that the action is asked a handful
of times per chunk and not once per address.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from actions.bulk_action import BulkAction, Spread
from schemas.decisions import Decision, Known
from schemas.errors import ForbiddenTransition
from schemas.outcomes import Cause, Outcome, Reason
from schemas.statuses import FACTS, MARKETABLE, OPTED_OUT_RANK, OWN_RIGHT_RANK, Status, rank_of


class Address(NamedTuple):
    """What the locks show of an address. `status` is None for one that the chunk brings in."""

    status: Status | None
    propagated_from: int | None
    status_job_id: int | None
    holders: int


class Link(NamedTuple):
    """A contact holds an address in a field (1 to 3)."""

    contact_id: int
    field: int
    address_id: int


class Change(NamedTuple):
    """An address gets a status; `propagated_from` is the address whose opt-out spread to it."""

    from_status: Status | None
    to_status: Status
    propagated_from: int | None


class Row(NamedTuple):
    """One result row, in the order of the columns that are written."""

    contact_id: int
    field: int
    address_id: int | None
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    cause: Cause
    source_address_id: int | None


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
    """The rows to write, and the last change of each address that changes."""

    rows: list[Row] = field(default_factory=list)
    changes: dict[int, Change] = field(default_factory=dict)


_SAME_ADDRESS = Decision(Outcome.UNCHANGED, None, Reason.SAME_ADDRESS_IN_JOB)
_NOT_FOUND = Decision(Outcome.REJECTED, None, Reason.CONTACT_NOT_FOUND)


def decide_chunk(action: BulkAction, params: Any, facts: ChunkFacts) -> ChunkDecisions:
    """Decide every selected address of the chunk, then let opt-outs spread.

    Raises ForbiddenTransition when the action would reopen an opt-out, and whatever the action's
    own `decide` raises.
    """
    decided = ChunkDecisions()
    direct = [link for link in facts.links if link.field in facts.fields]
    _decide_direct(action, params, facts, direct, decided)
    if action.may_spread:
        _spread(action, params, facts, direct, decided)
    for contact_id in facts.missing:
        decided.rows += _rows_without_address(contact_id, facts.fields, _NOT_FOUND)
    return decided


def _rows_without_address(contact_id: int, fields: Iterable[int], decision: Decision) -> list[Row]:
    return [
        Row(
            contact_id,
            field_no,
            None,
            decision.outcome,
            decision.reason,
            None,
            None,
            Cause.DIRECT,
            None,
        )
        for field_no in sorted(fields)
    ]


def _decide_direct(
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    direct: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    first: dict[int, Decision] = {}
    decide = _remembering(action, params, facts)
    addresses, changes, add = facts.addresses, decided.changes, decided.rows.append
    cause, applied = Cause.DIRECT, Outcome.APPLIED
    for contact_id, field_no, address_id in direct:
        status = addresses[address_id].status
        decision = first.get(address_id)
        if decision is None:
            decision = first[address_id] = decide(address_id)
            if decision.outcome is applied:
                assert decision.to_status is not None
                changes[address_id] = Change(status, decision.to_status, None)
        elif decision.outcome is applied:
            status, decision = decision.to_status, _SAME_ADDRESS
        outcome, to_status, reason = decision
        add(Row(contact_id, field_no, address_id, outcome, reason, status, to_status, cause, None))


def _remembering(action: BulkAction, params: Any, facts: ChunkFacts) -> Callable[[int], Decision]:
    """The action's decision on an address of the chunk, asked once per set of facts."""
    remembered: dict[tuple[Status | None, bool, bool], Decision] = {}
    addresses, beside, before = facts.addresses, facts.beside_opt_out, facts.decided_before
    job_id = facts.job_id

    def decide(address_id: int) -> Decision:
        status, source, status_job_id, _ = addresses[address_id]
        if status_job_id == job_id and status is not None:
            if source is None:
                return _SAME_ADDRESS
            if address_id in before:
                earlier = before[address_id]
                return _SAME_ADDRESS if earlier.outcome is Outcome.APPLIED else earlier
        key = (status, source is not None, address_id in beside)
        decision = remembered.get(key)
        if decision is None:
            decision = remembered[key] = _ask(action, params, Known(*key))
        return decision

    return decide


def _ask(action: BulkAction, params: Any, known: Known) -> Decision:
    decision = action.decide(known, params)
    if (
        known.status is not None
        and decision.to_status in MARKETABLE
        and rank_of(Status(known.status), spread=known.spread) >= OPTED_OUT_RANK
    ):
        raise ForbiddenTransition(
            f"The action {action.name} would make an address marketable that is {known.status};"
            " no bulk action may reopen an opt-out. Nothing of this chunk was changed."
            " Mend the action's decide()."
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
    contacts_of = _contacts_by_source(facts, direct, decided)
    by_strength: dict[Status, list[int]] = {}
    for source_id in contacts_of:
        by_strength.setdefault(_present(source_id, facts, decided)[0], []).append(source_id)
    spreads = [
        (spread, sources)
        for status, sources in by_strength.items()
        if (spread := action.spread(status, params)) is not None
    ]
    spreads.sort(key=lambda pair: -rank_of(pair[0].to_status, spread=True))
    links_of = _links_by_contact(facts)
    for spread, sources in spreads:
        for source_id in sorted(sources):
            targets = _targets(spread, source_id, facts, contacts_of[source_id], links_of)
            for target in targets:
                if target.address_id != source_id:
                    _reach(target, source_id, spread.to_status, facts, decided)


def _contacts_by_source(
    facts: ChunkFacts, direct: Sequence[Link], decided: ChunkDecisions
) -> dict[int, list[int]]:
    """The selected addresses that are opted out in their own right now, and through whom."""
    contacts_of: dict[int, list[int]] = {}
    in_own_right: dict[tuple[Status, bool], bool] = {}
    for contact_id, _, address_id in direct:
        known = contacts_of.get(address_id)
        if known is not None:
            known.append(contact_id)
            continue
        present = _present(address_id, facts, decided)
        answer = in_own_right.get(present)
        if answer is None:
            status, came_by_spreading = present
            answer = not came_by_spreading and FACTS[Status(status)].rank >= OWN_RIGHT_RANK
            in_own_right[present] = answer
        if answer:
            contacts_of[address_id] = [contact_id]
    return contacts_of


def _links_by_contact(facts: ChunkFacts) -> dict[int, list[Link]]:
    links_of: dict[int, list[Link]] = {}
    for link in facts.links:
        links_of.setdefault(link.contact_id, []).append(link)
    return links_of


def _present(address_id: int, facts: ChunkFacts, decided: ChunkDecisions) -> tuple[Status, bool]:
    """The status that an address has by now, and whether it came by spreading."""
    change = decided.changes.get(address_id)
    if change is not None:
        return change.to_status, change.propagated_from is not None
    address = facts.addresses[address_id]
    assert address.status is not None
    return address.status, address.propagated_from is not None


def _targets(
    spread: Spread,
    source_id: int,
    facts: ChunkFacts,
    contacts: Sequence[int],
    links_of: Mapping[int, Sequence[Link]],
) -> Iterable[Link]:
    holders = facts.addresses[source_id].holders
    is_role = holders > facts.shared_address_limit
    if is_role and not spread.role_reaches_selected:
        return ()
    if not is_role and spread.beyond_chunk and holders > 1:
        return facts.neighbours.get(source_id, ())
    return (link for contact_id in contacts for link in links_of[contact_id])


def _reach(
    target: Link, source_id: int, to_status: Status, facts: ChunkFacts, decided: ChunkDecisions
) -> None:
    status, came_by_spreading = _present(target.address_id, facts, decided)
    if rank_of(to_status, spread=True) <= rank_of(Status(status), spread=came_by_spreading):
        return
    decided.changes[target.address_id] = Change(status, to_status, source_id)
    decided.rows.append(
        Row(
            target.contact_id,
            target.field,
            target.address_id,
            Outcome.APPLIED,
            None,
            status,
            to_status,
            Cause.PROPAGATED,
            source_id,
        )
    )
