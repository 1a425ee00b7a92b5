"""Reading what became of addresses, fast however many results there are."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.actors import actor_text
from schemas.outcomes import Cause, Outcome
from schemas.statuses import Status

_sql = load("address_history")


class AddressNow(NamedTuple):
    """An address, what it is now, and where that came from."""

    id: int
    address: str
    status: Status
    previous_status: Status | None
    status_job_id: int | None
    status_changed_at: datetime
    holders: int
    propagated_from: int | None
    propagated_from_address: str | None


class Holder(NamedTuple):
    """A contact that holds an address, and in which field."""

    contact_id: int
    field: int
    given_name: str | None
    family_name: str | None
    company: str | None


class Chapter(NamedTuple):
    """One decision in the history of an address: a result, with who asked for the job.

    `requested_by` is who the caller said was asking, and `actor` who the caller was; None where an
    older version stored the job.
    """

    job_id: int
    action: str
    requested_by: str
    actor: str | None
    via: str | None
    evidence_source: str | None
    contact_id: int
    field: int
    cause: Cause
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    decided_at: datetime
    source_address_id: int | None
    source_address: str | None
    error: str | None


async def refusals_by_reason(connection: asyncpg.Connection, job_id: int) -> dict[str, int]:
    """How many rows and cells of the import's file were left out, by reason, most first."""
    rows = _sql.refusals_by_reason(connection, job_id=job_id)
    return {row["reason"]: row["refused"] async for row in rows}


async def recognised_rows(connection: asyncpg.Connection, job_id: int) -> int:
    """Return how many rows of the import were about contacts that were there already."""
    count: int = await _sql.recognised_rows(connection, job_id=job_id)
    return count


async def address_now(
    connection: asyncpg.Connection, *, account_id: int, match_key: str
) -> AddressNow | None:
    """The address of this identity, or None when the account has none."""
    row = await _sql.address(connection, account_id=account_id, match_key=match_key)
    return AddressNow(**_decided(row)) if row else None


async def holders_of(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, most: int
) -> tuple[list[Holder], int]:
    """Up to `most` contacts that hold the address, and how many there are."""
    rows = _sql.contacts_of_address(
        connection, account_id=account_id, address_id=address_id, most=most
    )
    holders = [Holder(*row) async for row in rows]
    count: int = await _sql.count_contacts_of_address(
        connection, account_id=account_id, address_id=address_id
    )
    return holders, count


async def history_of(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, most: int
) -> list[Chapter]:
    """Up to `most` decisions about the address, newest first."""
    rows = _sql.history_of_address(
        connection, account_id=account_id, address_id=address_id, most=most
    )
    return [_chapter(row) async for row in rows]


def _chapter(row: Mapping[str, Any]) -> Chapter:
    given = _decided(row)
    kind, id_ = given.pop("actor_kind"), given.pop("actor_id")
    return Chapter(**given, actor=actor_text(kind, id_))


_TYPES: dict[str, type[Status | Outcome | Cause]] = {
    "status": Status,
    "previous_status": Status,
    "from_status": Status,
    "to_status": Status,
    "outcome": Outcome,
    "cause": Cause,
}


def _decided(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns by name, its enum texts as the vocabulary's members."""
    return {
        name: _TYPES[name](value) if name in _TYPES and value is not None else value
        for name, value in row.items()
    }
