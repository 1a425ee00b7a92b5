"""A chunk as SQLAlchemy recommends for many rows: read columns, decide, write by bulk statements.

A transaction reads and locks the links and addresses of all its contacts with one joined select. It
decides in Python, and writes with a bulk UPDATE by primary key and a bulk INSERT.
"""

from collections.abc import Collection, Iterable

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, aliased

from bench.competitors.celery_sqlalchemy.bulk_decisions import (
    AddressState,
    Decisions,
    LinkTuple,
    Propagation,
    decide_opt_in,
    decide_opt_out,
    with_opted_out_sibling,
)
from bench.competitors.celery_sqlalchemy.tables import Address, Link, Result
from bench.competitors.jobs import Job
from bench.competitors.rules import OPTED_OUT, ROLE_ADDRESS_LIMIT, is_role

_COLUMNS = (
    Address.id,
    Address.status,
    Address.propagated_from,
    Address.status_job_id,
    Address.contact_count,
)


def work(session: Session, job: Job, chunk_no: int, contact_ids: list[int]) -> None:
    """Do the chunk; the caller commits."""
    links, addresses = _lock_addresses(session, job, contact_ids)
    selected = {address_id for _, field, address_id in links if field in job.fields}
    if job.action == "opt_in":
        decided = decide_opt_in(
            job, links, addresses, _with_opted_out_sibling(session, job, links, addresses)
        )
    else:
        around = _around(session, job, selected, addresses)
        decided = decide_opt_out(job, links, addresses, around)
    _write(session, job, chunk_no, decided)


def _lock_addresses(
    session: Session, job: Job, contact_ids: list[int]
) -> tuple[list[LinkTuple], dict[int, AddressState]]:
    """Lock the addresses. Return them, and all links in order of contact and field."""
    statement = (
        select(Link.contact_id, Link.field, *_COLUMNS)
        .join(Link.address)
        .where(Link.account_id == job.account_id, Link.contact_id.in_(contact_ids))
        .order_by(Address.id)
        .with_for_update(of=Address, key_share=True)
    )
    links: list[LinkTuple] = []
    addresses: dict[int, AddressState] = {}
    for contact_id, field, address_id, *known in session.execute(statement):
        links.append((contact_id, field, address_id))
        addresses[address_id] = AddressState(*known)
    links.sort()
    return links, addresses


def _with_opted_out_sibling(
    session: Session, job: Job, links: list[LinkTuple], addresses: dict[int, AddressState]
) -> set[int]:
    """Return the addresses with an opted-out sibling. Only shared ones may have one elsewhere."""
    shared = [
        id_
        for id_, known in addresses.items()
        if known.contact_count > 1 and known.status not in OPTED_OUT
    ]
    exposed = with_opted_out_sibling(links, addresses)
    if shared:
        held, other = aliased(Link), aliased(Link)
        statement = (
            select(held.address_id)
            .join(
                other, (other.account_id == held.account_id) & (other.contact_id == held.contact_id)
            )
            .join(other.address)
            .where(
                held.account_id == job.account_id,
                held.address_id.in_(shared),
                other.address_id != held.address_id,
                Address.status.in_(OPTED_OUT),
                Address.propagated_from.is_(None),
                Address.contact_count <= ROLE_ADDRESS_LIMIT,
            )
        )
        exposed.update(session.scalars(statement))
    return exposed


def _around(
    session: Session, job: Job, selected: Iterable[int], addresses: dict[int, AddressState]
) -> list[Propagation]:
    """Return and lock the siblings of shared selected addresses."""
    shared = [
        id_
        for id_ in selected
        if addresses[id_].contact_count > 1 and not is_role(addresses[id_].contact_count)
    ]
    if not shared:
        return []
    held, other = aliased(Link), aliased(Link)
    statement = (
        select(held.address_id, other.contact_id, other.field, other.address_id)
        .join(other, (other.account_id == held.account_id) & (other.contact_id == held.contact_id))
        .where(
            held.account_id == job.account_id,
            held.address_id.in_(shared),
            other.address_id != held.address_id,
        )
        .order_by(held.address_id, other.contact_id, other.field)
    )
    around: list[Propagation] = [tuple(row) for row in session.execute(statement)]
    _lock_more(session, job, {reach[3] for reach in around}.difference(addresses), addresses)
    return around


def _lock_more(
    session: Session, job: Job, ids: Collection[int], addresses: dict[int, AddressState]
) -> None:
    if not ids:
        return
    statement = (
        select(*_COLUMNS)
        .where(Address.account_id == job.account_id, Address.id.in_(ids))
        .order_by(Address.id)
        .with_for_update(key_share=True)
    )
    addresses.update((id_, AddressState(*known)) for id_, *known in session.execute(statement))


def _write(session: Session, job: Job, chunk_no: int, decided: Decisions) -> None:
    if decided.changes:
        session.execute(
            update(Address),
            [
                {
                    "account_id": job.account_id,
                    "id": id_,
                    "status": change.to_status,
                    "previous_status": change.from_status,
                    "propagated_from": change.source_id,
                    "status_job_id": job.job_id,
                    "status_changed_at": decided.decided_at,
                }
                for id_, change in decided.changes.items()
            ],
        )
    if decided.rows:
        session.execute(
            insert(Result),
            [
                {
                    "account_id": job.account_id,
                    "job_id": job.job_id,
                    "item_id": row.contact_id,
                    "chunk_no": chunk_no,
                    "decided_at": decided.decided_at,
                    **row._asdict(),
                }
                for row in decided.rows
            ],
            # Without it, rows are split into a statement for each set of columns that are null.
            execution_options={"render_nulls": True},
        )
