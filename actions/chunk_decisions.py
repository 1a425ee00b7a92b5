"""What becomes of every address of a chunk: the action's decisions, and how opt-outs spread.

Pure: from facts that were read under the chunk's locks to rows and changes to be written. This
is the hot loop; decisions are remembered per set of facts, so that the action is asked a handful
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
"""What the locks show of an address: status (None for one that the chunk brings in), the address
that it spread from, the job that set it, and how many contacts hold it. A plain tuple, like the
next ones: a chunk has thousands of each."""

Link: TypeAlias = tuple[int, int, int]
"""A contact holds an address in a field: contact id, field (1 to 3), address id."""

Row: TypeAlias = tuple[
    int, int, int | None, Outcome, str | None, Status | None, Status | None, Cause, int | None
]
"""One result row: contact id, field, address id, outcome, reason, from status, to status, cause,
source address id; the order in which they are written."""


class Change(NamedTuple):
    """An address gets a status; `propagated_from` is the address whose opt-out spread to it."""

    from_status: Status | None
    to_status: Status
    propagated_from: int | None


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


_SPREAD_RANKS = {
    status: facts.spread_rank for status, facts in FACTS.items() if facts.spread_rank is not None
}
_RANKS = {(status, False): facts.rank for status, facts in FACTS.items()} | {
    (status, True): rank for status, rank in _SPREAD_RANKS.items()
}
"""How strongly an address is suppressed, by its status and whether that came by spreading."""


def decide_chunk(action: BulkAction, params: Any, facts: ChunkFacts) -> ChunkDecisions:
    """Decide every selected address of the chunk, then let opt-outs spread.

    Raises ForbiddenTransition when the action would reopen an opt-out, and whatever the action's
    own `decide` raises.
    """
    decided = ChunkDecisions()
    direct = [link for link in facts.links if link[1] in facts.fields]
    _decide_direct(action, params, facts, direct, decided)
    if action.may_spread:
        _spread(action, params, facts, direct, decided)
    decided.rows += [
        (
            contact_id,
            field_no,
            None,
            Outcome.REJECTED,
            Reason.CONTACT_NOT_FOUND,
            None,
            None,
            Cause.DIRECT,
            None,
        )
        for contact_id in facts.missing
        for field_no in sorted(facts.fields)
    ]
    return decided


def _decide_direct(
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    direct: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    first: dict[int, Decision] = {}
    remembered: dict[tuple[Status | None, bool, bool], Decision] = {}
    addresses, beside, job_id = facts.addresses, facts.beside_opt_out, facts.job_id
    changes, add = decided.changes, decided.rows.append
    direct_cause, applied = Cause.DIRECT, Outcome.APPLIED
    for contact_id, field_no, address_id in direct:
        status, source, status_job_id, _ = addresses[address_id]
        decision = first.get(address_id)
        if decision is not None:
            if decision[0] is applied:
                status, decision = decision[1], _SAME_ADDRESS
        else:
            if status_job_id == job_id and status is not None:
                decision = _decided_by_this_job(address_id, source, facts)
            if decision is None:
                key = (status, source is not None, address_id in beside)
                decision = remembered.get(key)
                if decision is None:
                    decision = remembered[key] = _ask(action, params, Known(*key))
            first[address_id] = decision
            if decision[0] is applied:
                assert decision[1] is not None
                changes[address_id] = Change(status, decision[1], None)
        outcome, to_status, reason = decision
        add(
            (
                contact_id,
                field_no,
                address_id,
                outcome,
                reason,
                status,
                to_status,
                direct_cause,
                None,
            )
        )


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
        by_strength.setdefault(_present(source_id, facts, decided)[0], []).append(source_id)
    spreads = [
        (spread, sources)
        for status, sources in by_strength.items()
        if (spread := action.spread(status, params)) is not None
    ]
    spreads.sort(key=lambda pair: -rank_of(pair[0].to_status, spread=True))
    links_of = _links_by_contact(facts, within_reach)
    for spread, sources in spreads:
        for source_id in sorted(sources):
            targets = _targets(spread, source_id, facts, contacts_of[source_id], links_of)
            for target in targets:
                if target[2] != source_id and target[2] in within_reach:
                    _reach(target, source_id, spread.to_status, facts, decided)


def _within_reach(
    action: BulkAction, params: Any, facts: ChunkFacts, decided: ChunkDecisions
) -> set[int]:
    """The addresses that some spread of the action could change, as they are now.

    There are none where all that stands beside the selected addresses is selected too, and so is
    opted out in its own right. Suppression only climbs, so none come to be during the spread.
    """
    spreads = (action.spread(status, params) for status in OPTED_OUT)
    strongest = max((_SPREAD_RANKS[each.to_status] for each in spreads if each), default=-1)
    lower = {key for key, rank in _RANKS.items() if rank < strongest}
    changes = decided.changes
    reach = {
        id_
        for id_, (status, source, _, _) in facts.addresses.items()
        if id_ not in changes and (status, source is not None) in lower
    }
    reach.update(
        id_
        for id_, (_, to_status, source) in changes.items()
        if (to_status, source is not None) in lower
    )
    return reach


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


def _links_by_contact(facts: ChunkFacts, address_ids: set[int]) -> dict[int, list[Link]]:
    links_of: dict[int, list[Link]] = {}
    for link in facts.links:
        if link[2] in address_ids:
            links_of.setdefault(link[0], []).append(link)
    return links_of


def _present(address_id: int, facts: ChunkFacts, decided: ChunkDecisions) -> tuple[Status, bool]:
    """The status that an address has by now, and whether it came by spreading."""
    change = decided.changes.get(address_id)
    if change is not None:
        return change.to_status, change.propagated_from is not None
    status, source, _, _ = facts.addresses[address_id]
    assert status is not None
    return status, source is not None


def _targets(
    spread: Spread,
    source_id: int,
    facts: ChunkFacts,
    contacts: Sequence[int],
    links_of: Mapping[int, Sequence[Link]],
) -> Iterable[Link]:
    holders = facts.addresses[source_id][3]
    is_role = holders > facts.shared_address_limit
    if is_role and not spread.role_reaches_selected:
        return ()
    if not is_role and spread.beyond_chunk and holders > 1:
        return facts.neighbours.get(source_id, ())
    return (link for contact_id in contacts for link in links_of.get(contact_id, ()))


def _reach(
    target: Link, source_id: int, to_status: Status, facts: ChunkFacts, decided: ChunkDecisions
) -> None:
    contact_id, field_no, address_id = target
    status, came_by_spreading = _present(address_id, facts, decided)
    if _SPREAD_RANKS[to_status] <= _RANKS[status, came_by_spreading]:
        return
    decided.changes[address_id] = Change(status, to_status, source_id)
    decided.rows.append(
        (
            contact_id,
            field_no,
            address_id,
            Outcome.APPLIED,
            None,
            status,
            to_status,
            Cause.PROPAGATED,
            source_id,
        )
    )
