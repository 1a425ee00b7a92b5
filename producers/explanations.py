"""Explain in sentences why an address gets broadcasts or not."""

from collections.abc import Iterator

from actions.registry import all_actions
from db.address_history import CurrentAddress
from schemas.outcomes import Outcome
from schemas.statuses import MARKETABLE, OPTED_OUT

_OPT_IN_EFFECTS = {
    Outcome.APPLIED: "would opt it in",
    Outcome.UNCHANGED: "would leave it as it is",
    Outcome.REJECTED: "would be rejected",
}


def explain_status(address: CurrentAddress) -> Iterator[str]:
    """Say why it may or may not get broadcasts, and what a bulk opt-in would do."""
    meaning = address.status.meaning
    if address.status in MARKETABLE:
        yield f"It may get broadcasts: {meaning}."
        return
    if address.propagated_from is None:
        yield f"It gets no broadcasts: {meaning}."
    else:
        yield (
            f"It gets no broadcasts: {address.propagated_from_address} was opted out, and a"
            " contact holds both. So the opt-out was propagated to this address."
        )
    yield from _explain_opt_in(address)


def _explain_opt_in(address: CurrentAddress) -> Iterator[str]:
    opt_in = all_actions().get("opt_in")
    transitions = opt_in.transitions if opt_in else ()
    for edge in transitions:
        if edge.from_status is address.status:
            yield f"A bulk opt-in {_OPT_IN_EFFECTS[edge.decision.outcome]}: {edge.because}."
    if address.status in OPTED_OUT:
        yield "Only its owner can come back, by signing up again; no bulk job reopens an opt-out."
