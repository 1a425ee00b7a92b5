"""The plain form: mapped objects, one contact after another, with a commit for each."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, contains_eager

from bench.competitors.celery_sqlalchemy.tables import Address, Contact, Link, Result
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

_TRIES = 20
"""How often a contact is tried again after a deadlock."""


def work(session: Session, job: Job, chunk_no: int, contact_ids: list[int]) -> None:
    """Do the chunk, with a commit for each contact."""
    for contact_id in contact_ids:
        _until_done(session, job, chunk_no, contact_id)


def _until_done(session: Session, job: Job, chunk_no: int, contact_id: int) -> None:
    for left in reversed(range(_TRIES)):
        try:
            _work_contact(session, job, chunk_no, contact_id)
            session.commit()
        except OperationalError:
            session.rollback()
            if not left:
                raise
        else:
            return


def _work_contact(session: Session, job: Job, chunk_no: int, contact_id: int) -> None:
    selected = [link for link in _lock_links(session, job, contact_id) if link.field in job.fields]
    for link in selected:
        session.add(_direct(job, chunk_no, link))
    if job.action == "opt_out":
        for link in selected:
            _propagate(session, job, chunk_no, link)


def _lock_links(session: Session, job: Job, contact_id: int) -> list[Link]:
    """Return the contact's links in order of field. Lock their addresses in order of id."""
    statement = (
        select(Link)
        .join(Link.address)
        .options(contains_eager(Link.address))
        .where(Link.account_id == job.account_id, Link.contact_id == contact_id)
        .order_by(Address.id)
        .with_for_update(of=Address, key_share=True)
    )
    return sorted(session.scalars(statement), key=lambda link: link.field)


def _direct(job: Job, chunk_no: int, link: Link) -> Result:
    """Decide on the address that the contact holds in the field, and change it."""
    address = link.address
    decision = _decide(job, address)
    result = _result(job, chunk_no, link, decision)
    if decision.to_status is not None:
        _change(job, address, decision.to_status)
    return result


def _decide(job: Job, address: Address) -> Decision:
    if changed_by(job.job_id, address.status_job_id, address.propagated_from):
        return SAME_ADDRESS
    if job.action == "opt_out":
        return opt_out(address.status, address.propagated_from)
    decision = opt_in(address.status, sibling_opted_out=False)
    if decision.to_status is not None and _has_opted_out_sibling(address):
        return opt_in(address.status, sibling_opted_out=True)
    return decision


def _has_opted_out_sibling(address: Address) -> bool:
    """Return whether a contact of the address has a sibling whose opt-out is propagated to it."""
    return any(
        in_own_right(other.address.status, other.address.propagated_from)
        and not is_role(other.address.contact_count)
        for other in _others(link.contact for link in address.links)
        if other.address is not address
    )


def _propagate(session: Session, job: Job, chunk_no: int, source: Link) -> None:
    """Opt out the siblings of the address, which is already opted out in its own right."""
    shared = source.address.contact_count > 1 and not is_role(source.address.contact_count)
    contacts = [link.contact for link in source.address.links] if shared else [source.contact]
    for link in _others(contacts):
        address = link.address
        if address.status in OPTED_OUT:
            continue
        # It may be on another contact, and then it is not locked yet.
        session.refresh(address, with_for_update={"key_share": True})
        if address.status not in OPTED_OUT:
            result = _result(job, chunk_no, link, Decision("applied", "admin"))
            result.cause, result.source_address_id = "propagated", source.address_id
            session.add(result)
            _change(job, address, "admin", source.address_id)


def _others(contacts: Iterable[Contact]) -> Iterator[Link]:
    for contact in contacts:
        yield from contact.links


def _result(job: Job, chunk_no: int, link: Link, decision: Decision) -> Result:
    return Result(
        account_id=job.account_id,
        job_id=job.job_id,
        chunk_no=chunk_no,
        item_id=link.contact_id,
        contact_id=link.contact_id,
        field=link.field,
        cause="direct",
        address_id=link.address_id,
        outcome=decision.outcome,
        from_status=link.address.status,
        to_status=decision.to_status,
        reason=decision.reason,
        decided_at=datetime.now(UTC),
    )


def _change(job: Job, address: Address, to_status: str, source_id: int | None = None) -> None:
    address.previous_status = address.status
    address.status = to_status
    address.propagated_from = source_id
    address.status_job_id = job.job_id
    address.status_changed_at = datetime.now(UTC)
