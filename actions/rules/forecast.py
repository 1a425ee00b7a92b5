"""What a job would do: what the rules say of every possible address, and the sum of it.

A million addresses differ in few things that a decision depends on
(`schemas.decisions.AddressState`). So the rules are asked once for each code, which stands for a
status and whether it was propagated. Addresses are counted by their codes elsewhere.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from actions.bulk_action import BulkAction, Propagation
from actions.rules.chunk_decisions import decide_address
from actions.rules.propagation import outranks
from schemas.decisions import AddressState, Decision
from schemas.outcomes import Outcome, Reason
from schemas.requests import FIELD_NAMES
from schemas.statuses import FACTS, OWN_RIGHT_RANK, Status

STATUS_CODES: tuple[tuple[Status, bool], ...] = tuple(
    (status, spread) for status in Status for spread in (False, True)
)
"""(status, whether it had spread) by code, which counts from 1 on."""


class CodeRules(NamedTuple):
    """What the rules of an action say of each code, as arrays in the order of codes.

    `spreading` is 1 for an address whose own opt-out is propagated. `sibling_sensitive` is 1 where
    an opted-out sibling changes the decision. The others are bits, one for each way in which the
    job propagates. `sources` is for an address that the job leaves opted out in its own right,
    `role_sources` for the same if it is a role address. `beyond_sources` is for one whose
    propagation reaches contacts outside the selection, and `reach` for an address that would climb.
    """

    spreading: list[int]
    sibling_sensitive: list[int]
    sources: list[int]
    role_sources: list[int]
    beyond_sources: list[int]
    reach: list[int]


class PairGroup(NamedTuple):
    """The number of selected (contact, field) pairs of which the same is known.

    `code` is None for an address that is new to the account. `first` says that the job meets it for
    the first time.
    """

    field: int
    code: int | None
    beside: bool
    first: bool
    rows: int


def compute_code_rules(action: BulkAction, params: Any) -> CodeRules:
    """Return the rules of the action with these parameters, as the forecast counts by them.

    Propagation is asked for as if no sibling were opted out: no action both refuses such an address
    and opts out itself.
    """
    rules = CodeRules(*([] for _ in CodeRules._fields))
    ways: list[Propagation] = []
    for status, spread in STATUS_CODES:
        known = AddressState(status, spread)
        possible = not spread or FACTS[status].propagated_rank is not None
        decided = decide_address(action, params, known) if possible else None
        rules.spreading.append(int(_in_own_right(known)))
        rules.sibling_sensitive.append(
            int(decided is not None and _is_sibling_sensitive(action, params, known))
        )
        way = _propagation_after(action, params, known, decided)
        if way is not None and way not in ways:
            ways.append(way)
        bit = 0 if way is None else 1 << ways.index(way)
        rules.sources.append(bit)
        rules.role_sources.append(bit if way and way.role_propagates_to_selected else 0)
        rules.beyond_sources.append(bit if way and way.beyond_chunk else 0)
    rules.reach.extend(
        _propagations_onto(ways, status, is_propagated=spread) for status, spread in STATUS_CODES
    )
    return rules


def _in_own_right(known: AddressState) -> bool:
    return (
        known.status is not None
        and not known.is_propagated
        and FACTS[known.status].rank >= OWN_RIGHT_RANK
    )


def _is_sibling_sensitive(action: BulkAction, params: Any, known: AddressState) -> bool:
    """Return whether an opted-out sibling changes the decision on the address."""
    if not action.checks_siblings:
        return False
    beside = known._replace(sibling_opted_out=True)
    return decide_address(action, params, known) != decide_address(action, params, beside)


def _propagation_after(
    action: BulkAction, params: Any, known: AddressState, decided: Decision | None
) -> Propagation | None:
    """Return how an address with this decision is propagated once the job has changed it."""
    if decided is None or not action.may_propagate:
        return None
    after = known if decided.to_status is None else AddressState(decided.to_status)
    if not _in_own_right(after):
        return None
    assert after.status is not None
    return action.propagation(after.status, params)


def _propagations_onto(ways: Sequence[Propagation], status: Status, *, is_propagated: bool) -> int:
    """Return which of the ways propagate to such an address, as bits."""
    return sum(
        1 << number
        for number, way in enumerate(ways)
        if outranks(way.to_status, status, is_propagated=is_propagated)
    )


def forecast(
    action: BulkAction,
    params: Any,
    *,
    fields: Sequence[int],
    contacts: int,
    missing: int,
    kinds: Iterable[PairGroup],
    propagated: int,
) -> dict[str, Any]:
    """Forecast the job for this number of contacts, of which `missing` do not exist.

    Count by outcome, by `outcome:reason`, and both by field; propagation would change `propagated`
    addresses. The job decides which of two pairs of one address gets the credit, so pairs of two
    fields may change places.
    """
    tallies: dict[int, Counter[ResultKind]] = {field: Counter() for field in fields}
    for kind in kinds:
        tallies[kind.field][_ending(action, params, kind)] += kind.rows
    for tally in tallies.values():
        tally[Outcome.REJECTED, Reason.CONTACT_NOT_FOUND] += missing
    pairs = contacts * len(tallies)
    return {
        "selected": pairs,
        **_as_dict(sum(tallies.values(), Counter()), pairs),
        "propagated": propagated,
        "fields": {FIELD_NAMES[field]: _as_dict(t, contacts) for field, t in tallies.items()},
    }


ResultKind: TypeAlias = tuple[str, str | None]
"""Outcome and reason."""


def _ending(action: BulkAction, params: Any, kind: PairGroup) -> ResultKind:
    known = (
        AddressState(None)
        if kind.code is None
        else AddressState(*STATUS_CODES[kind.code - 1], kind.beside)
    )
    decision = decide_address(action, params, known)
    if decision.outcome is Outcome.APPLIED and not kind.first:
        return Outcome.UNCHANGED, Reason.SAME_ADDRESS_IN_JOB
    return decision.outcome, decision.reason


def _as_dict(tally: Counter[ResultKind], pairs: int) -> dict[str, Any]:
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
"""What a person says yes to."""


def drift(expected: Mapping[str, int], present: Mapping[str, Any]) -> dict[str, int]:
    """Return by how much the present counts differ from the expected ones, where they do."""
    differences = {
        name: present[name] - expected[name] for name in FORECAST_COUNTS if name in expected
    }
    return {name: by for name, by in differences.items() if by}
