"""How the opt-out of one address propagates to its siblings.

Pure, and part of the hot loop of `actions/rules/chunk_decisions.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from actions.bulk_action import BulkAction, Propagation
from actions.rules.chunk import ChunkDecisions, ChunkInputs
from schemas.chunk_rows import Link
from schemas.outcomes import Cause, Outcome
from schemas.results import ResultKind, ResultRow
from schemas.statuses import OPTED_OUT, OWN_RIGHT, Status, rank_of

_PropagatedRow: TypeAlias = tuple[int, int, int, int]
"""A result row that has an address and a source: contact id, field, address id, source id."""

_PROPAGATED_RANKS = {
    status: status.propagated_rank for status in Status if status.propagated_rank is not None
}
_OWN_RIGHT_STATUSES = frozenset(OWN_RIGHT)


class _ReplacedStatuses(NamedTuple):
    """The statuses that a propagated opt-out replaces, by how they came about."""

    own_right: frozenset[Status]
    propagated: frozenset[Status]


_REPLACED_STATUSES = {
    to_status: _ReplacedStatuses(
        frozenset(status for status in Status if status.rank < rank),
        frozenset(status for status, lower in _PROPAGATED_RANKS.items() if lower < rank),
    )
    for to_status, rank in _PROPAGATED_RANKS.items()
}


def outranks(to_status: Status, status: Status, *, is_propagated: bool) -> bool:
    """Return whether an opt-out propagated as `to_status` replaces `status`.

    `is_propagated` tells whether `status` was itself propagated.
    """
    own_right, propagated = _REPLACED_STATUSES[to_status]
    return status in (propagated if is_propagated else own_right)


def propagate_opt_outs(
    action: BulkAction,
    params: Any,
    inputs: ChunkInputs,
    selected_links: Sequence[Link],
    decided: ChunkDecisions,
) -> None:
    """Propagate every opt-out in its own right of the selected addresses to their siblings.

    The strongest goes first, so that an address changes once. Propagation takes one step only,
    since what it changes is not opted out in its own right.
    """
    targets = _propagation_targets(action, params, inputs, decided)
    if targets:
        contacts_of = _contacts_by_source(inputs, selected_links, decided)
        _propagate_from(contacts_of, targets, action, params, inputs, decided)


def propagate_after_import(
    action: BulkAction, params: Any, inputs: ChunkInputs, contacts_of: Mapping[int, Sequence[int]]
) -> ChunkDecisions:
    """Propagate the opt-outs of some addresses to the siblings on the given contacts.

    For the end of an import, when an address turns out to be no role address. An address that is
    opted out already stays as it is: it has its one propagated row in this job.
    """
    decided = ChunkDecisions()
    targets = {
        address_id
        for address_id in _propagation_targets(action, params, inputs, decided)
        if _current_status(address_id, inputs, decided) not in OPTED_OUT
    }
    _propagate_from(contacts_of, targets, action, params, inputs, decided)
    return decided


def _propagate_from(  # noqa: PLR0917
    contacts_of: Mapping[int, Sequence[int]],
    targets: set[int],
    action: BulkAction,
    params: Any,
    inputs: ChunkInputs,
    decided: ChunkDecisions,
) -> None:
    sources_by_status: dict[Status, list[int]] = {}
    for source_id in contacts_of:
        status = _current_status(source_id, inputs, decided)
        sources_by_status.setdefault(status, []).append(source_id)
    propagations = [
        (propagation, sorted(sources))
        for status, sources in sources_by_status.items()
        if (propagation := action.propagation(status, params)) is not None
    ]
    propagations.sort(key=lambda pair: -rank_of(pair[0].to_status, is_propagated=True))
    links_of = _links_by_contact(inputs, targets)
    for propagation, sources in propagations:
        rows = (
            (contact_id, field_no, address_id, source_id)
            for source_id in sources
            for contact_id, field_no, address_id in _sibling_links(
                propagation, source_id, inputs, contacts_of[source_id], links_of
            )
            if address_id in targets and address_id != source_id
        )
        _store_propagated(rows, propagation.to_status, inputs, decided)


def _propagation_targets(
    action: BulkAction, params: Any, inputs: ChunkInputs, decided: ChunkDecisions
) -> set[int]:
    """Return the addresses that some propagation of the action could change.

    After the decisions on selected addresses, their statuses have a lower rank than the strongest
    propagation gives. Propagation only raises ranks, so it adds no address to them.
    """
    propagations = (action.propagation(status, params) for status in OPTED_OUT)
    to_statuses = {propagation.to_status for propagation in propagations if propagation}
    if not to_statuses:
        return set()
    strongest = max(to_statuses, key=_PROPAGATED_RANKS.__getitem__)
    own_right, propagated = _REPLACED_STATUSES[strongest]
    changes = decided.changes
    targets = {
        address_id
        for address_id, (status, source, _, _) in inputs.addresses.items()
        if status in (own_right if source is None else propagated) and address_id not in changes
    }
    targets.update(
        address_id
        for address_id, (_, to_status, source) in changes.items()
        if to_status in (own_right if source is None else propagated)
    )
    return targets


def _contacts_by_source(
    inputs: ChunkInputs, selected_links: Sequence[Link], decided: ChunkDecisions
) -> dict[int, list[int]]:
    """Return the contacts of each selected address that is now opted out in its own right."""
    contacts_of: dict[int, list[int]] = {}
    addresses, changes = inputs.addresses, decided.changes
    for contact_id, _, address_id in selected_links:
        contacts = contacts_of.get(address_id)
        if contacts is not None:
            contacts.append(contact_id)
            continue
        change = changes.get(address_id)
        if change is None:
            status, source, _, _ = addresses[address_id]
        else:
            _, status, source = change
        if source is None and status in _OWN_RIGHT_STATUSES:
            contacts_of[address_id] = [contact_id]
    return contacts_of


def _links_by_contact(inputs: ChunkInputs, address_ids: set[int]) -> dict[int, list[Link]]:
    links_of: dict[int, list[Link]] = {}
    for link in inputs.links:
        contact_id, _, address_id = link
        if address_id in address_ids:
            links_of.setdefault(contact_id, []).append(link)
    return links_of


def _current_status(address_id: int, inputs: ChunkInputs, decided: ChunkDecisions) -> Status:
    change = decided.changes.get(address_id)
    if change is None:
        status, _, _, _ = inputs.addresses[address_id]
    else:
        _, status, _ = change
    assert status is not None
    return status


def _sibling_links(
    propagation: Propagation,
    source_id: int,
    inputs: ChunkInputs,
    contacts: Sequence[int],
    links_of: Mapping[int, Sequence[Link]],
) -> Sequence[Link]:
    """Return the links to which the opt-out of the source propagates."""
    _, _, _, person_count = inputs.addresses[source_id]
    if person_count > inputs.role_address_limit:
        if not propagation.role_propagates_to_selected:
            return ()
    elif propagation.beyond_chunk and source_id in inputs.sibling_links:
        return inputs.sibling_links[source_id]
    if len(contacts) == 1:
        return links_of.get(contacts[0], ())
    return [link for contact_id in contacts for link in links_of.get(contact_id, ())]


def _store_propagated(
    rows: Iterable[_PropagatedRow], to_status: Status, inputs: ChunkInputs, decided: ChunkDecisions
) -> None:
    """Add each row that changes its address; the first row of an address wins."""
    own_right, propagated = _REPLACED_STATUSES[to_status]
    addresses, changes = inputs.addresses, decided.changes
    rows_by_status: dict[Status | None, list[ResultRow]] = {}
    for row in rows:
        _, _, address_id, source_id = row
        change = changes.get(address_id)
        if change is None:
            status, source, _, _ = addresses[address_id]
        else:
            _, status, source = change
        if status not in (own_right if source is None else propagated):
            continue
        changes[address_id] = (status, to_status, source_id)
        rows_by_status.setdefault(status, []).append(row)
    for status, changed_rows in rows_by_status.items():
        kind = ResultKind(Outcome.APPLIED, None, status, to_status, Cause.PROPAGATED)
        decided.rows.setdefault(kind, []).extend(changed_rows)
