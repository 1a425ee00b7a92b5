"""Read addresses, their contacts and their results, and the counts of imports."""

from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.actors import format_actor
from schemas.job_key import JobKey
from schemas.staging import CELL_REJECTION_REASONS
from schemas.statuses import Status
from schemas.views import AddressContact, AddressResult

_sql = load("address_history")


class CurrentAddress(NamedTuple):
    """An address with its status, and the job or the address that the status came from."""

    id: int
    address: str
    status: Status
    previous_status: Status | None
    status_job_id: int | None
    status_changed_at: datetime
    contact_count: int
    propagated_from: int | None
    propagated_from_address: str | None


class LinkedAddress(NamedTuple):
    """The address that a one-click link is about, and the name of its account."""

    account: str
    address: str


async def count_import_rejections(connection: asyncpg.Connection, job: JobKey) -> dict[str, int]:
    """Count the import rejections of the job's file by reason, the most frequent reason first."""
    rows = _sql.count_import_rejections(connection, **job._asdict())
    return {row["reason"]: row["rejected"] async for row in rows}


async def count_rejected_rows(connection: asyncpg.Connection, job: JobKey) -> int:
    """Count the rejected rows of the import; rejected cells do not count."""
    by_reason = await count_import_rejections(connection, job)
    return sum(by_reason[reason] for reason in by_reason.keys() - CELL_REJECTION_REASONS)


async def count_recognized_rows(connection: asyncpg.Connection, job: JobKey) -> int:
    """Count the recognized rows of the import."""
    return int(await _sql.count_recognized_rows(connection, **job._asdict()))


async def get_address(
    connection: asyncpg.Connection, *, account_id: int, match_key: str
) -> CurrentAddress | None:
    """Return the account's address with this match key; None if the account does not know it."""
    row = await _sql.get_address(connection, account_id=account_id, match_key=match_key)
    if row is None:
        return None
    before = row["previous_status"]
    statuses = {"status": Status(row["status"]), "previous_status": before and Status(before)}
    return CurrentAddress(**{**row, **statuses})


async def list_contacts(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, limit: int
) -> tuple[list[AddressContact], int]:
    """Return up to `limit` contacts that hold the address, and how many links it has in total."""
    address = {"account_id": account_id, "address_id": address_id}
    rows = [row async for row in _sql.list_contacts(connection, **address, limit=limit)]
    return [AddressContact(**row) for row in rows], rows[0]["links"] if rows else 0


async def list_history(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, limit: int
) -> list[AddressResult]:
    """Return up to `limit` results about the address, newest first."""
    rows = _sql.list_history(connection, account_id=account_id, address_id=address_id, limit=limit)
    return [
        AddressResult(**row, actor=format_actor(row["actor_kind"], row["actor_id"]))
        async for row in rows
    ]


async def get_linked_address(
    connection: asyncpg.Connection, *, account_id: int, address_id: int
) -> LinkedAddress | None:
    """Return the address that the one-click link is about; None if it no longer exists."""
    row = await _sql.get_linked_address(connection, account_id=account_id, address_id=address_id)
    return LinkedAddress(*row) if row else None
