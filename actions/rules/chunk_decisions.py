"""What becomes of every address of a chunk: the action's decisions, and their propagation.

Pure: from the facts that were read for a chunk to rows and changes to be written. This is the hot
loop; decisions are remembered per set of facts, so that the action is asked a handful of times per
chunk and not once per address.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from actions.bulk_action import BulkAction
from actions.rules.chunk import Change, ChunkDecisions, ChunkFacts, Link, ResultKind, ResultRow
from actions.rules.propagation import propagate_opt_outs
from schemas.decisions import AddressState, Decision
from schemas.errors import ForbiddenTransition
from schemas.outcomes import Cause, Outcome, Reason
from schemas.statuses import OPTED_OUT, OPTED_OUT_RANK, Status, rank_of

_SAME_ADDRESS = Decision(Outcome.UNCHANGED, None, Reason.SAME_ADDRESS_IN_JOB)

_CONTACT_NOT_FOUND: ResultKind = (
    Outcome.REJECTED,
    Reason.CONTACT_NOT_FOUND,
    None,
    None,
    Cause.DIRECT,
)


def decide_chunk(action: BulkAction, params: Any, facts: ChunkFacts) -> ChunkDecisions:
    """Decide every selected address of the chunk, then propagate opt-outs.

    Raises ForbiddenTransition if the action would reopen an opt-out, and what the action's own
    `decide` raises.
    """
    decided = ChunkDecisions()
    direct = facts.selected_links()
    _decide_selected(action, params, facts, direct, decided)
    if action.may_propagate:
        # What stands on a recognized contact already spreads to what is added to it.
        sources = direct if facts.row_links is None else facts.links
        propagate_opt_outs(action, params, facts, sources, decided)
    if facts.missing:
        fields = sorted(facts.fields)
        decided.rows.setdefault(_CONTACT_NOT_FOUND, []).extend(
            (contact_id, field_no, None, None)
            for contact_id in facts.missing
            for field_no in fields
        )
    return decided


class _FactGroup(NamedTuple):
    """What all addresses of which the same is known have in common: the decision, the change that
    it makes, and the rows that end so.
    """

    decision: Decision
    change: Change | None
    rows: list[ResultRow]


def _decide_selected(
    action: BulkAction,
    params: Any,
    facts: ChunkFacts,
    direct: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    first: dict[int, Decision] = {}
    kinds: dict[tuple[Status | None, bool, bool, Status | None], _FactGroup] = {}
    addresses, beside, job_id = facts.addresses, facts.sibling_opted_out, facts.job_id
    stated = facts.stated
    changes = decided.changes
    for contact_id, field_no, address_id in direct:
        status, source, status_job_id, _ = addresses[address_id]
        if address_id in first or (status_job_id == job_id and status is not None):
            decision = _earlier_decision(address_id, first, facts)
            if decision is not None:
                if decision is _SAME_ADDRESS and address_id in changes:
                    status = changes[address_id][1]
                first[address_id] = decision
                ending = (decision[0], decision[2], status, decision[1], Cause.DIRECT)
                rows = decided.rows.setdefault(ending, [])
                rows.append((contact_id, field_no, address_id, None))
                continue
        key = (status, source is not None, address_id in beside, stated.get(address_id))
        kind = kinds.get(key)
        if kind is None:
            kind = kinds[key] = _group_of(
                decide_address(action, params, AddressState(*key)), status, decided
            )
        decision, change, rows = kind
        first[address_id] = decision
        if change is not None:
            changes[address_id] = change
        rows.append((contact_id, field_no, address_id, None))


def _group_of(decision: Decision, status: Status | None, decided: ChunkDecisions) -> _FactGroup:
    outcome, to_status, reason = decision
    change = None
    if outcome is Outcome.APPLIED:
        assert to_status is not None
        change = (status, to_status, None)
    ending = (outcome, reason, status, to_status, Cause.DIRECT)
    return _FactGroup(decision, change, decided.rows.setdefault(ending, []))


def _earlier_decision(
    address_id: int, first: Mapping[int, Decision], facts: ChunkFacts
) -> Decision | None:
    """Decide a further row of an address that this job has decided already, here or in another
    chunk.

    Return None if there was no such decision.
    """
    decision = first.get(address_id)
    if decision is None:
        return _earlier_chunk_decision(address_id, facts.addresses[address_id][1], facts)
    return _SAME_ADDRESS if decision.outcome is Outcome.APPLIED else decision


def _earlier_chunk_decision(
    address_id: int, source: int | None, facts: ChunkFacts
) -> Decision | None:
    """Decide a further row of an address that an earlier chunk decided; None if none did."""
    if source is None:
        return _SAME_ADDRESS
    earlier = facts.earlier_decisions.get(address_id)
    if earlier is not None and earlier.outcome is Outcome.APPLIED:
        return _SAME_ADDRESS
    return earlier


def decide_address(action: BulkAction, params: Any, known: AddressState) -> Decision:
    """Return the action's decision; raises ForbiddenTransition if it would reopen an opt-out."""
    decision = action.decide(known, params)
    if (
        known.status is not None
        and decision.to_status is not None
        and decision.to_status not in OPTED_OUT
        and rank_of(Status(known.status), is_propagated=known.is_propagated) >= OPTED_OUT_RANK
    ):
        raise ForbiddenTransition(
            f"The action {action.name} would make an address {decision.to_status} that is"
            f" {known.status}; no bulk action may reopen an opt-out. Nothing of this chunk was"
            " changed. Correct the action's decide()."
        )
    return decision
