"""The forecast of a job: the decision on every possible state of an address, and their counts.

Of a million addresses few states are distinct (`schemas.decisions.AddressState`). So the rules are
asked once for each code, which stands for a status and whether it was propagated. The database
counts addresses by code.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from actions.bulk_action import BulkAction, Propagation
from actions.rules.chunk_decisions import decide_address
from actions.rules.propagation import outranks
from schemas.chunk_rows import PairGroup
from schemas.decisions import AddressState, Decision
from schemas.outcomes import Outcome, Reason
from schemas.requests import FIELD_NAMES
from schemas.statuses import OWN_RIGHT, Status

STATUS_CODES: tuple[tuple[Status, bool], ...] = tuple(
    (status, is_propagated) for status in Status for is_propagated in (False, True)
)
"""(status, is_propagated) of each code; the first code is 1."""


_Ending: TypeAlias = tuple[str, str | None]
"""Outcome and reason."""


class CodeRules(NamedTuple):
    """What the rules of an action say of each code, as arrays in the order of codes.

    `propagating` is 1 for an address whose own opt-out is propagated. `sibling_sensitive` is 1
    where an opted-out sibling changes the decision.

    In the others each bit stands for one way in which the job propagates. An address that the job
    leaves opted out in its own right has the bit of its propagation in `sources`, or in
    `role_sources` if it is a role address. It has the bit in `beyond_sources` if that propagation
    is not limited to the selected contacts. `changed_by` has the bits of the propagations that
    would change the address.
    """

    propagating: list[int]
    sibling_sensitive: list[int]
    sources: list[int]
    role_sources: list[int]
    beyond_sources: list[int]
    changed_by: list[int]


def compute_code_rules(action: BulkAction, params: Any) -> CodeRules:
    """Return the rules of the action with these parameters, as the forecast counts by them.

    Propagation is asked for as if no sibling were opted out: no action both rejects such an address
    and opts out itself.
    """
    propagations: list[Propagation] = []
    rows = []
    for status, is_propagated in STATUS_CODES:
        state = AddressState(status, is_propagated)
        possible = not is_propagated or status.propagated_rank is not None
        decided = decide_address(action, params, state) if possible else None
        is_sensitive = decided is not None and _is_sibling_sensitive(action, params, state)
        bit = role_bit = beyond_bit = 0
        if propagation := _propagation_after(action, params, state, decided):
            if propagation not in propagations:
                propagations.append(propagation)
            bit = 1 << propagations.index(propagation)
            role_bit = bit * propagation.role_propagates_to_selected
            beyond_bit = bit * propagation.beyond_chunk
        rows.append((int(_in_own_right(state)), int(is_sensitive), bit, role_bit, beyond_bit))
    changed_by = [
        sum(
            1 << number
            for number, propagation in enumerate(propagations)
            if outranks(propagation.to_status, status, is_propagated=is_propagated)
        )
        for status, is_propagated in STATUS_CODES
    ]
    return CodeRules(*map(list, (*zip(*rows, strict=True), changed_by)))


def _in_own_right(state: AddressState) -> bool:
    return not state.is_propagated and state.status in OWN_RIGHT


def _is_sibling_sensitive(action: BulkAction, params: Any, state: AddressState) -> bool:
    """Return whether an opted-out sibling changes the decision on the address."""
    if not action.checks_siblings:
        return False
    with_sibling = state._replace(sibling_opted_out=True)
    return decide_address(action, params, state) != decide_address(action, params, with_sibling)


def _propagation_after(
    action: BulkAction, params: Any, state: AddressState, decided: Decision | None
) -> Propagation | None:
    """Return how an address with this decision is propagated once the job has changed it."""
    if decided is None or not action.may_propagate:
        return None
    after = state if decided.to_status is None else AddressState(decided.to_status)
    if not _in_own_right(after):
        return None
    assert after.status is not None
    return action.propagation(after.status, params)


def forecast(
    action: BulkAction,
    params: Any,
    *,
    fields: Sequence[int],
    contacts: int,
    missing: int,
    groups: Iterable[PairGroup],
    propagated: int,
) -> dict[str, Any]:
    """Forecast the job for this number of contacts, of which `missing` do not exist.

    Count by outcome, by `outcome:reason`, and both by field; propagation would change `propagated`
    addresses. The job decides which of two pairs of one address gets the credit, so pairs of two
    fields may change places.
    """
    tallies: dict[int, Counter[_Ending]] = {field: Counter() for field in fields}
    for group in groups:
        tallies[group.field][_find_ending(action, params, group)] += group.rows
    for tally in tallies.values():
        tally[Outcome.REJECTED, Reason.CONTACT_NOT_FOUND] += missing
    pairs = contacts * len(tallies)
    return {
        "selected": pairs,
        **_as_dict(sum(tallies.values(), Counter()), pairs),
        "propagated": propagated,
        "fields": {FIELD_NAMES[field]: _as_dict(t, contacts) for field, t in tallies.items()},
    }


def _find_ending(action: BulkAction, params: Any, group: PairGroup) -> _Ending:
    state = (
        AddressState(None)
        if group.code is None
        else AddressState(*STATUS_CODES[group.code - 1], group.sibling_opted_out)
    )
    decision = decide_address(action, params, state)
    if decision.outcome is Outcome.APPLIED and not group.is_first_in_job:
        return Outcome.UNCHANGED, Reason.SAME_ADDRESS_IN_JOB
    return decision.outcome, decision.reason


def _as_dict(tally: Counter[_Ending], pairs: int) -> dict[str, Any]:
    """Count by outcome and by reason; the rest of the `pairs` is empty."""
    counts = {outcome.value: 0 for outcome in Outcome}
    for (outcome, _), rows in tally.items():
        counts[outcome] += rows
    return {
        **counts,
        "empty": pairs - sum(counts.values()),
        "reasons": {
            f"{outcome}:{reason}": rows
            for (outcome, reason), rows in sorted(tally.items(), key=str)
            if reason is not None and rows
        },
    }


FORECAST_COUNTS = ("applied", "unchanged", "rejected", "empty", "propagated")
"""The counts that a confirmation is about."""


def drift(expected: Mapping[str, int], present: Mapping[str, Any]) -> dict[str, int]:
    """Return by how much the present counts differ from the expected ones, where they do."""
    differences = {
        name: present[name] - expected[name] for name in FORECAST_COUNTS if name in expected
    }
    return {name: by for name, by in differences.items() if by}
