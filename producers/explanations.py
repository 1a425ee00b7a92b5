"""Explain in sentences why an address gets broadcasts or not."""

from collections.abc import Iterator

from actions.registry import all_actions, describe_reason
from db.address_history import CurrentAddress, HistoryEntry
from schemas.outcomes import Cause, Outcome
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD
from schemas.statuses import FACTS, MARKETABLE, OPTED_OUT

_OPT_IN_EFFECTS = {
    Outcome.APPLIED: "would opt it in",
    Outcome.UNCHANGED: "would not change it",
    Outcome.REJECTED: "would be rejected",
}


def explain_status(address: CurrentAddress) -> Iterator[str]:
    """Yield why the address may or may not get broadcasts, and what a bulk opt-in would do."""
    meaning = FACTS[address.status].meaning
    if address.status in MARKETABLE:
        yield f"It may get broadcasts: {meaning}."
        return
    if address.propagated_from is None:
        yield f"It gets no broadcasts: {meaning}."
    else:
        yield (
            f"It gets no broadcasts: {address.propagated_from_address} was opted out, and a"
            " contact holds both. An opt-out is a person's, so it propagated to this address."
        )
    yield from _explain_opt_in(address)


def _explain_opt_in(address: CurrentAddress) -> Iterator[str]:
    opt_in = all_actions().get("opt_in")
    transitions = opt_in.transitions if opt_in else ()
    for transition in transitions:
        if transition.from_status is address.status:
            yield f"A bulk opt-in {_OPT_IN_EFFECTS[transition.outcome]}: {transition.because}."
    if address.status in OPTED_OUT:
        yield "Only its owner can reverse that, by signing up again; a bulk job cannot."


def describe_decision(entry: HistoryEntry) -> str:
    """Return one decision about the address as a sentence."""
    where = f", in {FIELD_NAMES[entry.field]} of contact {entry.contact_id}"
    if entry.field == LISTED_ADDRESS_FIELD:
        where = ""
    if entry.cause is Cause.PROPAGATED:
        where = f", propagated from {entry.source_address}{where}"
    if entry.outcome is Outcome.APPLIED:
        before = entry.from_status.value if entry.from_status else "new"
        assert entry.to_status is not None
        return f"{before} → {entry.to_status.value}{where}"
    meaning = describe_reason(entry.reason)
    because = f"{entry.reason}: {meaning}" if meaning else str(entry.reason)
    error = f" ({entry.error})" if entry.error else ""
    return f"{entry.outcome.value} ({because}){error}{where}"
