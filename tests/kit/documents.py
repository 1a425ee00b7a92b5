"""The tables of `docs/transitions.md`, generated from the code that they describe.

The page's prose is written by hand; the text between `<!-- table: NAME -->` and `<!-- end -->` is
generated. `python -m tests.kit.documents` writes it, and a test compares.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from actions.bulk_action import BulkAction
from actions.registry import all_actions, describe_reason, get_action
from schemas.decisions import AddressState, Decision
from schemas.errors import MissingEvidence
from schemas.evidence import Source, require_evidence
from schemas.field_errors import describe_error
from schemas.outcomes import STATE_CHANGES, Outcome, Reason
from schemas.staging import CELL_REJECTION_REASONS, ImportRejectionReason
from schemas.statuses import MARKETABLE, OWN_RIGHT, Status

TRANSITIONS = Path(__file__).parents[2] / "docs" / "transitions.md"

_PLACE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_DASH = "-"
"""The text of an empty cell."""

Variants = tuple[tuple[str, dict[str, Any]], ...]

VARIANTS: dict[str, Variants] = {
    "opt_in": (("", {}),),
    "opt_out": tuple(
        (f"`{kind}`", {"kind": kind})
        for kind in ("admin", "manual", "list_unsubscribe", "feedback", "spam")
    ),
    "import": (
        ("with permission", {"permission": True}),
        ("without permission", {"permission": False}),
        ("whose file states statuses", {"permission": True, "statuses": True}),
    ),
}
"""For each action, the parameters that its decisions depend on, each with a description.

An action that is not listed is called without parameters.
"""

_NO_PARAMS: Variants = (("", {}),)

_FROM_THE_SERVICE = {
    Reason.SAME_ADDRESS_IN_JOB: Outcome.UNCHANGED,
    Reason.CONTACT_NOT_FOUND: Outcome.REJECTED,
    Reason.INTERNAL_ERROR: Outcome.REJECTED,
}
"""Reasons that come from the service, so any job may have them."""


def variants_of(action: BulkAction) -> Variants:
    """Return the parameters to call an action with, each with a description."""
    return VARIANTS.get(action.name, _NO_PARAMS)


def table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    headers = tuple(headers)
    lines = [headers, ("---",) * len(headers), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def code(text: object) -> str:
    """Return the text as code, or a dash for None."""
    return _DASH if text is None else f"`{text}`"


def statuses() -> str:
    """Return the table of the fixed properties of each status."""
    return table(
        ("status", "marketable", "rank", "rank when propagated", "meaning"),
        (
            (
                code(status.value),
                "yes" if status in MARKETABLE else "no",
                status.rank,
                _DASH if status.propagated_rank is None else status.propagated_rank,
                status.meaning,
            )
            for status in Status
        ),
    )


def transitions(name: str) -> str:
    """Return the transition table of an action, with the explanation of each transition."""
    return table(
        ("from", "outcome", "to", "reason", "because"),
        (
            (
                "(new)" if transition.from_status is None else code(transition.from_status.value),
                transition.decision.outcome.value,
                code(transition.decision.to_status),
                code(transition.decision.reason),
                transition.because,
            )
            for transition in get_action(name).transitions
        ),
    )


def variants(name: str) -> str:
    """Return the table of the action's decisions by its parameters, computed by `decide` itself."""
    action = get_action(name)
    by_params = variants_of(action)
    first = [AddressState(None)] if action.creates_contacts or action.accepts_addresses else []
    known = first + [AddressState(status) for status in Status]
    known += [
        AddressState(status, is_propagated=True)
        for status in Status
        if status.propagated_rank is not None
    ]
    if action.checks_siblings:
        known.append(AddressState(Status.NON_MARKETABLE, sibling_opted_out=True))
    return table(
        ("from", *(words for words, _ in by_params)),
        (
            (
                _situation(situation),
                *(_answer(action.decide(situation, params_of(action, p))) for _, p in by_params),
            )
            for situation in known
        ),
    )


class InvalidVariant(Exception):
    """`VARIANTS` has no parameters that the action accepts."""


def params_of(action: BulkAction, given: dict[str, Any]) -> Any:
    """Return the parameters as the action takes them; raises InvalidVariant."""
    try:
        return action.params.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "missing":
            raise InvalidVariant(
                f"The action {action.name} has the required parameter {name}, and VARIANTS in"
                " tests/kit/documents.py needs a value for it."
            ) from None
        raise InvalidVariant(
            f"The action {action.name} does not accept what VARIANTS in tests/kit/documents.py"
            f" gives for {name or 'its parameters'}: {describe_error(first)}"
        ) from None


def _situation(known: AddressState) -> str:
    if known.status is None:
        return "(new)"
    text = code(known.status.value)
    if known.is_propagated:
        text += ", propagated"
    if known.sibling_opted_out:
        text += ", with an opted-out sibling"
    return text


def _answer(decision: Decision) -> str:
    if decision.to_status is not None:
        return code(decision.to_status.value)
    return f"{decision.outcome.value}, {code(decision.reason)}"


def propagation() -> str:
    """Return how an opt-out in its own right is propagated, in each action that does so."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for action in all_actions().values():
        for words, params in variants_of(action):
            for source in OWN_RIGHT:
                spread = action.propagation(source, params_of(action, params))
                if spread is None:
                    continue
                key = (
                    code(action.name),
                    words,
                    code(spread.to_status.value),
                    "every contact that holds it" if spread.beyond_chunk else "those that arrive",
                    "the selected contacts" if spread.role_propagates_to_selected else "nobody",
                )
                rows.setdefault(key, []).append(code(source.value))
    return table(
        ("action", "kind", "becomes", "on", "from a role address, on", "where the source is"),
        (
            (*key, "any" if len(sources) == len(OWN_RIGHT) else ", ".join(sources))
            for key, sources in rows.items()
        ),
    )


def evidence() -> str:
    """Return the table of what every case of evidence requires."""
    return table(("field", "question"), ((code(f), q) for f, q in _always()))


def follow_ups() -> str:
    """Return the table of what each source requires in addition."""
    always = _always()
    rows = []
    for source in Source:
        asked = [pair for pair in _asked({"source": source.value}) if pair not in always]
        rows += [(code(source.value), code(f), q) for f, q in asked] or [
            (code(source.value), _DASH, "nothing more")
        ]
    return table(("source", "field", "question"), rows)


def _always() -> list[tuple[str, str]]:
    return _asked({})


def _asked(answers: dict[str, str]) -> list[tuple[str, str]]:
    try:
        require_evidence(answers, today=date(2000, 1, 1))
    except MissingEvidence as missing:
        return [(prompt.field, prompt.prompt) for prompt in missing.prompts]
    raise AssertionError("evidence of nothing but a source is never enough")


def job_states() -> str:
    """Return the table of the transitions between job states."""
    return table(
        ("from", "to", "when"),
        ((code(a.value), code(b.value), when) for (a, b), when in STATE_CHANGES.items()),
    )


def reasons() -> str:
    """Return the table of reasons, with their outcomes and meanings."""
    outcomes: dict[str, set[Outcome]] = {reason: set() for reason in Reason}
    for reason, outcome in _FROM_THE_SERVICE.items():
        outcomes[reason].add(outcome)
    for action in all_actions().values():
        for decision in decisions(action):
            if decision.reason is not None:
                outcomes.setdefault(decision.reason, set()).add(decision.outcome)
    return table(
        ("reason", "outcome", "meaning"),
        (
            (code(reason), ", ".join(sorted(o.value for o in found)), describe_reason(reason))
            for reason, found in outcomes.items()
        ),
    )


def decisions(action: BulkAction) -> Iterator[Decision]:
    """Return every decision that the action can make."""
    situations = [
        AddressState(status, is_propagated, sibling_opted_out)
        for status, is_propagated, sibling_opted_out in product(
            Status, (False, True), (False, True)
        )
        if not is_propagated or status.propagated_rank is not None
    ]
    if action.creates_contacts or action.accepts_addresses:
        situations.append(AddressState(None))
    for _, params in variants_of(action):
        for known in situations:
            yield action.decide(known, params_of(action, params))


def import_rejections() -> str:
    """Return the table of why a row of a file, or a cell, is rejected."""
    return table(
        ("reason", "leaves out", "meaning"),
        (
            (
                code(reason.value),
                "the cell" if reason in CELL_REJECTION_REASONS else "the row",
                reason.meaning,
            )
            for reason in ImportRejectionReason
        ),
    )


def tables() -> dict[str, Callable[[], str]]:
    """Return every table of the page, by its name."""
    found: dict[str, Callable[[], str]] = {
        "statuses": statuses,
        "propagation": propagation,
        "evidence": evidence,
        "follow-ups": follow_ups,
        "job-states": job_states,
        "reasons": reasons,
        "import-rejections": import_rejections,
    }
    for name, action in all_actions().items():
        found[f"transitions-{name}"] = partial(transitions, name)
        if len(variants_of(action)) > 1:
            found[f"variants-{name}"] = partial(variants, name)
    return found


def places(page: str) -> list[str]:
    """Return the names of the tables that the page has a place for."""
    return [match[2] for match in _PLACE.finditer(page)]


def filled(page: str) -> str:
    """Return the page with every table filled in. Raises KeyError for an unknown name."""
    found = tables()
    return _PLACE.sub(lambda place: f"{place[1]}\n{found[place[2]]()}\n{place[3]}", page)


if __name__ == "__main__":
    try:
        text = filled(TRANSITIONS.read_text())
    except InvalidVariant as error:
        sys.exit(str(error))
    TRANSITIONS.write_text(text)
