"""Reading what became of addresses, fast however many results there are."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.actors import format_actor
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome
from schemas.statuses import Status

_sql = load("address_history")


class CurrentAddress(NamedTuple):
    """An address, what it is now, and where that came from."""

    id: int
    address: str
    status: Status
    previous_status: Status | None
    status_job_id: int | None
    status_changed_at: datetime
    contact_count: int
    propagated_from: int | None
    propagated_from_address: str | None


class AddressContact(NamedTuple):
    """A contact that holds an address, and in which field."""

    contact_id: int
    field: int
    given_name: str | None
    family_name: str | None
    company: str | None


class HistoryEntry(NamedTuple):
    """One decision in the history of an address: a result, with who asked for the job.

    `requested_by` is who the caller said was asking, and `actor` who the caller was; None where
    Sluice has not stored the job. `contact_id` is None where the job lists addresses.
    """

    job_id: int
    action: str
    requested_by: str
    actor: str | None
    via: str | None
    evidence_source: str | None
    contact_id: int | None
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


async def import_rejections_by_reason(
    connection: asyncpg.Connection, job: JobKey
) -> dict[str, int]:
    """How many rows and cells of the import's file were left out, by reason, most first."""
    rows = _sql.import_rejections_by_reason(connection, **job._asdict())
    return {row["reason"]: row["refused"] async for row in rows}


async def recognized_rows(connection: asyncpg.Connection, job: JobKey) -> int:
    """Return how many rows of the import were recognized as contacts that were there."""
    count: int = await _sql.count_recognized_rows(connection, **job._asdict())
    return count


async def get_address(
    connection: asyncpg.Connection, *, account_id: int, match_key: str
) -> CurrentAddress | None:
    """Return the account's address with this match key, or None if it has none."""
    row = await _sql.get_address(connection, account_id=account_id, match_key=match_key)
    return CurrentAddress(**_to_values(row)) if row else None


async def list_contacts(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, limit: int
) -> tuple[list[AddressContact], int]:
    """Return up to `limit` contacts that hold the address, and how many hold it in all."""
    rows = _sql.list_contacts(connection, account_id=account_id, address_id=address_id, limit=limit)
    holders = [AddressContact(*row) async for row in rows]
    count: int = await _sql.count_contacts(connection, account_id=account_id, address_id=address_id)
    return holders, count


async def list_history(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, limit: int
) -> list[HistoryEntry]:
    """Return up to `limit` results about the address, newest first."""
    rows = _sql.list_history(connection, account_id=account_id, address_id=address_id, limit=limit)
    return [_history_entry(row) async for row in rows]


def _history_entry(row: Mapping[str, Any]) -> HistoryEntry:
    given = _to_values(row)
    kind, id_ = given.pop("actor_kind"), given.pop("actor_id")
    return HistoryEntry(**given, actor=format_actor(kind, id_))


_TYPES: dict[str, type[Status | Outcome | Cause]] = {
    "status": Status,
    "previous_status": Status,
    "from_status": Status,
    "to_status": Status,
    "outcome": Outcome,
    "cause": Cause,
}


def _to_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row's columns by name, with enum texts as members of the vocabulary."""
    return {
        name: _TYPES[name](value) if name in _TYPES and value is not None else value
        for name, value in row.items()
    }
