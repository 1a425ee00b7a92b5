"""Completion webhooks: the deliveries that are due, and what became of each."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.job_key import JobKey

_sql = load("webhook_deliveries")

_MAX_DUE_READ = 20
"""Of how many due deliveries one is claimed; other processes may have claimed the rest."""


class DueDelivery(NamedTuple):
    """A delivery that this process has claimed until its lease ends.

    `attempt` counts from 1. The URL may carry a secret, so no text may have it.
    """

    job: JobKey
    url: str
    attempt: int

    def __repr__(self) -> str:
        return f"DueDelivery(job_id={self.job.job_id}, attempt={self.attempt})"


class SecretSource(NamedTuple):
    """What an account's secret is derived from, and the id of the signing key.

    Both are None until the secret was shown for the first time.
    """

    salt: bytes | None
    key_id: str | None


class Delivery(NamedTuple):
    """The state of a job's delivery; `error` is why the last attempt failed."""

    attempts: int
    delivered_at: datetime | None
    abandoned_at: datetime | None
    error: str | None


async def insert_delivery(connection: asyncpg.Connection, job: JobKey, url: str) -> None:
    """Have the URL told of the job's end; part of the transaction that inserts the job."""
    await _sql.insert_delivery(connection, **job._asdict(), url=url)


async def get_secret_source(connection: asyncpg.Connection, account_id: int) -> SecretSource:
    """Return what the account's secret is derived from."""
    return SecretSource(*await _sql.get_secret_source(connection, account_id=account_id))


async def store_secret_source(
    connection: asyncpg.Connection, account_id: int, *, salt: bytes, key_id: str, renewed: bool
) -> SecretSource:
    """Store what the account's secret is derived from, and return what is stored.

    A source that is stored already is kept unless `renewed`.
    """
    await _sql.store_secret_source(
        connection, account_id=account_id, salt=salt, signing_key=key_id, renewed=renewed
    )
    return await get_secret_source(connection, account_id)


async def list_secret_sources(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return the names of accounts whose secret was shown, each with its signing key's id."""
    return [(row["name"], row["key_id"]) async for row in _sql.list_secret_sources(connection)]


async def has_due(connection: asyncpg.Connection) -> bool:
    """Return whether a delivery is due."""
    return bool(await _sql.has_due(connection))


async def claim_due(
    connection: asyncpg.Connection, *, busy: Collection[int], lease_seconds: float
) -> DueDelivery | None:
    """Claim the delivery that has been due for longest; return None if there is none.

    Deliveries of the accounts `busy`, and those that other processes have claimed, are left out.
    """
    rows = _sql.list_due(connection, busy=list(busy), limit=_MAX_DUE_READ)
    for job in [JobKey(*row) async for row in rows]:
        row = await _sql.claim_due(connection, **job._asdict(), lease_seconds=lease_seconds)
        if row:
            return DueDelivery(job, *row)
    return None


async def mark_delivered(connection: asyncpg.Connection, delivery: DueDelivery) -> None:
    """Record that the receiver accepted the webhook."""
    await _sql.mark_delivered(connection, **delivery.job._asdict())


async def mark_failed(
    connection: asyncpg.Connection,
    delivery: DueDelivery,
    *,
    error: str,
    delay_seconds: float | None,
) -> None:
    """Record a failed attempt, and when the next one is due. None abandons the webhook."""
    attempt = {**delivery.job._asdict(), "attempt": delivery.attempt}
    await _sql.mark_failed(connection, **attempt, error=error, delay_seconds=delay_seconds)


async def get_delivery(connection: asyncpg.Connection, job: JobKey) -> Delivery | None:
    """Return the state of the job's delivery; None if the job has no completion webhook."""
    row = await _sql.get_delivery(connection, **job._asdict())
    return Delivery(*row) if row else None
