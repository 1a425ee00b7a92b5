"""Why an address gets broadcasts or not, in sentences."""

from collections.abc import Iterator

from actions.registry import all_actions, describe_reason
from db.address_history import CurrentAddress, HistoryEntry
from schemas.outcomes import Cause, Outcome
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD
from schemas.statuses import FACTS, MARKETABLE, OPTED_OUT

_OPT_IN_EFFECTS = {
    Outcome.APPLIED: "would opt it in",
    Outcome.UNCHANGED: "would leave it as it is",
    Outcome.REJECTED: "would be refused",
}


def explain_status(address: CurrentAddress) -> Iterator[str]:
    """Explain whether the address gets broadcasts, and what a bulk opt-in would change
    about that.
    """
    meaning = FACTS[address.status].meaning
    if address.status in MARKETABLE:
        yield f"It may get broadcasts: {meaning}."
        return
    if address.propagated_from is None:
        yield f"It gets no broadcasts: {meaning}."
    else:
        yield (
            f"It gets no broadcasts: {address.propagated_from_address} was opted out, and a"
            " contact holds both. An opt-out is a person's, so it reached this address too."
        )
    yield from _explain_opt_in(address)


def _explain_opt_in(address: CurrentAddress) -> Iterator[str]:
    opt_in = all_actions().get("opt_in")
    transitions = opt_in.transitions if opt_in else ()
    for transition in transitions:
        if transition.from_status is address.status:
            yield f"A bulk opt-in {_OPT_IN_EFFECTS[transition.outcome]}: {transition.because}."
    if address.status in OPTED_OUT:
        yield "Only its owner can come back, by signing up again; no bulk job reopens an opt-out."


def describe_decision(chapter: HistoryEntry) -> str:
    """Describe one result of the address's history in a sentence."""
    where = f", in {FIELD_NAMES[chapter.field]} of contact {chapter.contact_id}"
    if chapter.field == LISTED_ADDRESS_FIELD:
        where = ""
    if chapter.cause is Cause.PROPAGATED:
        where = f", spread from {chapter.source_address}{where}"
    if chapter.outcome is Outcome.APPLIED:
        before = chapter.from_status.value if chapter.from_status else "new"
        assert chapter.to_status is not None
        return f"{before} → {chapter.to_status.value}{where}"
    meaning = describe_reason(chapter.reason)
    because = f"{chapter.reason}: {meaning}" if meaning else str(chapter.reason)
    error = f" ({chapter.error})" if chapter.error else ""
    return f"{chapter.outcome.value} ({because}){error}{where}"
