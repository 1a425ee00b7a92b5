"""Decide every address of a chunk: the action's decisions, then the propagation of opt-outs.

Pure: from what was read for a chunk to the rows and changes to write. This is the hot loop. The
action decides once for each distinct state of an address, a handful of times in a chunk.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from actions.bulk_action import BulkAction
from actions.rules.chunk import ChunkDecisions, ChunkInputs
from actions.rules.propagation import propagate_opt_outs
from schemas.chunk_rows import Change, Link
from schemas.decisions import AddressState, Decision
from schemas.errors import ForbiddenTransition
from schemas.outcomes import Cause, Outcome, Reason
from schemas.results import ResultKind, ResultRow
from schemas.statuses import OPTED_OUT, OPTED_OUT_RANK, Status

_SAME_ADDRESS = Decision(Outcome.UNCHANGED, None, Reason.SAME_ADDRESS_IN_JOB)

_CONTACT_NOT_FOUND = ResultKind(
    Outcome.REJECTED, Reason.CONTACT_NOT_FOUND, None, None, Cause.DIRECT
)


def decide_chunk(action: BulkAction, params: Any, inputs: ChunkInputs) -> ChunkDecisions:
    """Decide every selected address of the chunk, then propagate opt-outs.

    Raises ForbiddenTransition if the action would reopen an opt-out, and any exception of the
    action's own `decide`.
    """
    decided = ChunkDecisions()
    selected_links = inputs.selected_links()
    _decide_selected(action, params, inputs, selected_links, decided)
    if action.may_propagate:
        # The opt-outs that a recognized contact already has propagate to the addresses it gains.
        sources = selected_links if inputs.row_links is None else inputs.links
        propagate_opt_outs(action, params, inputs, sources, decided)
    if inputs.missing:
        fields = sorted(inputs.fields)
        decided.rows.setdefault(_CONTACT_NOT_FOUND, []).extend(
            (contact_id, field_no, None, None)
            for contact_id in inputs.missing
            for field_no in fields
        )
    return decided


class _DecidedState(NamedTuple):
    """What all selected addresses of one state share: the decision, its change and its rows."""

    decision: Decision
    change: Change | None
    rows: list[ResultRow]


def _decide_selected(
    action: BulkAction,
    params: Any,
    inputs: ChunkInputs,
    selected_links: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    decision_of: dict[int, Decision] = {}
    states: dict[tuple[Status | None, bool, bool, Status | None], _DecidedState] = {}
    addresses, with_sibling, job_id = inputs.addresses, inputs.with_opted_out_sibling, inputs.job_id
    stated = inputs.stated
    changes = decided.changes
    for contact_id, field_no, address_id in selected_links:
        status, source, status_job_id, _ = addresses[address_id]
        if address_id in decision_of or (status_job_id == job_id and status is not None):
            decision = _repeated_decision(address_id, source, decision_of, inputs)
            if decision is not None:
                if decision is _SAME_ADDRESS and address_id in changes:
                    _, status, _ = changes[address_id]
                decision_of[address_id] = decision
                rows = decided.rows.setdefault(_result_kind(decision, status), [])
                rows.append((contact_id, field_no, address_id, None))
                continue
        key = (status, source is not None, address_id in with_sibling, stated.get(address_id))
        state = states.get(key)
        if state is None:
            state = states[key] = _decide_state(action, params, AddressState(*key), decided)
        decision, change, rows = state
        decision_of[address_id] = decision
        if change is not None:
            changes[address_id] = change
        rows.append((contact_id, field_no, address_id, None))


def _decide_state(
    action: BulkAction, params: Any, state: AddressState, decided: ChunkDecisions
) -> _DecidedState:
    decision = decide_address(action, params, state)
    change = None
    if decision.outcome is Outcome.APPLIED:
        assert decision.to_status is not None
        change = (state.status, decision.to_status, None)
    rows = decided.rows.setdefault(_result_kind(decision, state.status), [])
    return _DecidedState(decision, change, rows)


def _result_kind(decision: Decision, status: Status | None) -> ResultKind:
    return ResultKind(
        outcome=decision.outcome,
        reason=decision.reason,
        from_status=status,
        to_status=decision.to_status,
        cause=Cause.DIRECT,
    )


def _repeated_decision(
    address_id: int, source: int | None, decision_of: Mapping[int, Decision], inputs: ChunkInputs
) -> Decision | None:
    """Return the decision on a further pair with the same address, or None if this is the first.

    If no pair of this chunk had the address before, the job has set its status in an earlier chunk:
    by a decision if `source` is None, otherwise by propagation.
    """
    decision = decision_of.get(address_id)
    if decision is None:
        if source is None:
            return _SAME_ADDRESS
        decision = inputs.earlier_decisions.get(address_id)
    if decision is not None and decision.outcome is Outcome.APPLIED:
        return _SAME_ADDRESS
    return decision


def decide_address(action: BulkAction, params: Any, state: AddressState) -> Decision:
    """Return the action's decision; raise ForbiddenTransition if it would reopen an opt-out."""
    decision = action.decide(state, params)
    if (
        decision.to_status is not None
        and decision.to_status not in OPTED_OUT
        and state.rank >= OPTED_OUT_RANK
    ):
        raise ForbiddenTransition(
            f"The action {action.name} would change {state.status} to {decision.to_status},"
            " but no bulk action may reopen an opt-out. Nothing in this chunk was changed."
            " Correct the action's decide()."
        )
    return decision
