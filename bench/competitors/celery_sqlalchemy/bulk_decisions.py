"""Decide on the addresses of a chunk in memory, without a session or a statement."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from bench.competitors.jobs import Job
from bench.competitors.rules import (
    OPTED_OUT,
    SAME_ADDRESS,
    Decision,
    changed_by,
    in_own_right,
    is_role,
    opt_in,
    opt_out,
)

LinkTuple: TypeAlias = tuple[int, int, int]
"""Contact id, field, address id."""

Propagation: TypeAlias = tuple[int, int, int, int]
"""The source's address id, and the contact, field and address that its opt-out is propagated to."""


class AddressState(NamedTuple):
    """An address as it was when locked."""

    status: str
    propagated_from: int | None
    status_job_id: int | None
    contact_count: int


class Change(NamedTuple):
    """The last change of an address; `source_id` is set if an opt-out was propagated to it."""

    from_status: str
    to_status: str
    source_id: int | None = None


class Row(NamedTuple):
    """A row of `results` with the names of its columns."""

    contact_id: int
    field: int
    address_id: int
    outcome: str
    to_status: str | None
    reason: str | None
    from_status: str
    cause: str = "direct"
    source_address_id: int | None = None


@dataclass
class Decisions:
    """The rows to write. Their time is taken when all rows are locked."""

    rows: list[Row] = field(default_factory=list)
    changes: dict[int, Change] = field(default_factory=dict)
    decided_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def with_opted_out_sibling(
    links: Iterable[LinkTuple], addresses: dict[int, AddressState]
) -> set[int]:
    """Return the addresses with a sibling in the chunk whose opt-out is propagated."""
    sources: dict[int, set[int]] = {}
    for contact_id, _, address_id in links:
        known = addresses[address_id]
        if in_own_right(known.status, known.propagated_from) and not is_role(known.contact_count):
            sources.setdefault(contact_id, set()).add(address_id)
    return {
        address_id
        for contact_id, _, address_id in links
        if contact_id in sources and sources[contact_id] - {address_id}
    }


def decide_opt_in(
    job: Job, links: list[LinkTuple], addresses: dict[int, AddressState], exposed: set[int]
) -> Decisions:
    """Decide on an opt-in of the selected fields."""
    return _decide_each(
        job,
        links,
        addresses,
        lambda id_: opt_in(addresses[id_].status, sibling_opted_out=id_ in exposed),
    )


def decide_opt_out(
    job: Job, links: list[LinkTuple], addresses: dict[int, AddressState], around: list[Propagation]
) -> Decisions:
    """Decide on an opt-out of the selected fields, and on its propagation.

    Every selected address ends as opted out in its own right. So each is propagated to the other
    addresses of its contacts in the chunk, and to those `around` it.
    """
    decided = _decide_each(
        job,
        links,
        addresses,
        lambda id_: opt_out(addresses[id_].status, addresses[id_].propagated_from),
    )
    for reaches in (_within(job, links), around):
        for source_id, contact_id, field_no, address_id in reaches:
            status = addresses[address_id].status
            if address_id in decided.changes or status in OPTED_OUT:
                continue
            decided.changes[address_id] = Change(status, "admin", source_id)
            decided.rows.append(
                Row(
                    *(contact_id, field_no, address_id, "applied", "admin", None, status),
                    cause="propagated",
                    source_address_id=source_id,
                )
            )
    return decided


def _within(job: Job, links: list[LinkTuple]) -> Iterator[Propagation]:
    """Propagate from the first selected address of each contact to its other addresses."""
    source_of: dict[int, int] = {}
    for contact_id, field_no, address_id in links:
        if field_no in job.fields:
            source_of.setdefault(contact_id, address_id)
    for contact_id, field_no, address_id in links:
        source_id = source_of.get(contact_id, address_id)
        if source_id != address_id:
            yield source_id, contact_id, field_no, address_id


def _decide_each(
    job: Job,
    links: list[LinkTuple],
    addresses: dict[int, AddressState],
    decide: Callable[[int], Decision],
) -> Decisions:
    """Return a row for each selected address. A repeated address is changed once."""
    decided = Decisions()
    decisions: dict[int, Decision] = {}
    for contact_id, field_no, address_id in links:
        if field_no not in job.fields:
            continue
        status, propagated_from, status_job_id, _ = addresses[address_id]
        if address_id in decided.changes:
            status, decision = decided.changes[address_id].to_status, SAME_ADDRESS
        elif address_id in decisions:
            decision = decisions[address_id]
        else:
            again = changed_by(job.job_id, status_job_id, propagated_from)
            decision = decisions[address_id] = SAME_ADDRESS if again else decide(address_id)
            if decision.to_status is not None:
                decided.changes[address_id] = Change(status, decision.to_status)
        decided.rows.append(Row(contact_id, field_no, address_id, *decision, status))
    return decided
