"""Completion webhooks in Postgres: who is to be told of a job's end, and whether that was done."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.job_key import JobKey

_sql = load("webhook_deliveries")

_DUE_LOOKED_AT = 20
"""So many deliveries that are due are looked at for one that no other process has."""


class DueDelivery(NamedTuple):
    """A delivery that is this process's to make, until its lease is over.

    `attempt` counts from 1. The URL may carry a token, so it must not be in any text.
    """

    job: JobKey
    url: str
    attempt: int

    def __repr__(self) -> str:
        return f"DueDelivery(job_id={self.job.job_id}, attempt={self.attempt})"


class SecretSource(NamedTuple):
    """What an account's secret is derived from, and by which of SIGNING_KEYS; None until it was
    shown.
    """

    salt: bytes | None
    key_id: str | None


class Delivery(NamedTuple):
    """How far the telling of a job's end is; `error` is why the last attempt failed."""

    attempts: int
    delivered_at: datetime | None
    abandoned_at: datetime | None
    error: str | None


async def insert_delivery(connection: asyncpg.Connection, job: JobKey, url: str) -> None:
    """Have the URL told of the job's end; to be called in the transaction that stores the job."""
    await _sql.insert_delivery(connection, **job._asdict(), url=url)


async def get_secret_source(connection: asyncpg.Connection, account_id: int) -> SecretSource:
    """Return what the account's secret is derived from."""
    return SecretSource(*await _sql.get_secret_source(connection, account_id=account_id))


async def store_secret_source(
    connection: asyncpg.Connection, account_id: int, *, salt: bytes, key_id: str, renewed: bool
) -> SecretSource:
    """Let the account's secret be derived from this, unless it was shown before and is not to be
    renewed; return what it is derived from.
    """
    await _sql.store_secret_source(
        connection, account_id=account_id, salt=salt, signing_key=key_id, renewed=renewed
    )
    return await get_secret_source(connection, account_id)


async def list_secret_sources(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return the accounts whose secret was shown, each with the id of its key."""
    return [(row["name"], row["key_id"]) async for row in _sql.list_secret_sources(connection)]


async def has_due(connection: asyncpg.Connection) -> bool:
    """Whether a webhook waits to be delivered."""
    found: bool = await _sql.has_due(connection)
    return found


async def claim_due(
    connection: asyncpg.Connection, *, busy: Collection[int], lease_seconds: float
) -> DueDelivery | None:
    """Claim the delivery that has been due for longest, or return None where none is due.

    Those of the accounts `busy` are left out, and those that other processes have.
    """
    rows = _sql.list_due(connection, busy=list(busy), limit=_DUE_LOOKED_AT)
    for job in [JobKey(*row) async for row in rows]:
        row = await _sql.claim_due(connection, **job._asdict(), lease_seconds=lease_seconds)
        if row:
            return DueDelivery(job, *row)
    return None


async def mark_delivered(connection: asyncpg.Connection, delivery: DueDelivery) -> None:
    """Record that the receiver accepted the webhook."""
    await _sql.mark_delivered(connection, **delivery.job._asdict())


async def mark_failed(
    connection: asyncpg.Connection, delivery: DueDelivery, *, error: str, delay_seconds: float
) -> None:
    """Record a failed delivery, and schedule the next one after `delay_seconds`."""
    await _sql.mark_failed(
        connection,
        **delivery.job._asdict(),
        attempt=delivery.attempt,
        error=error,
        delay_seconds=delay_seconds,
    )


async def mark_abandoned(
    connection: asyncpg.Connection, delivery: DueDelivery, *, error: str
) -> None:
    """Record a failed delivery that was the last one."""
    await _sql.mark_abandoned(
        connection,
        **delivery.job._asdict(),
        attempt=delivery.attempt,
        error=error,
    )


async def get_delivery(connection: asyncpg.Connection, job: JobKey) -> Delivery | None:
    """How far the telling of the job's end is; None where nobody asked to be told."""
    row = await _sql.get_delivery(connection, **job._asdict())
    return Delivery(*row) if row else None
