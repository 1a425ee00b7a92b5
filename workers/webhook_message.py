"""The request of a completion webhook."""

import json
import time
from typing import NamedTuple

import asyncpg

from db import job_progress, jobs
from db.webhook_deliveries import DueDelivery, get_secret_source
from runtime.settings import Settings
from runtime.signing import signature, webhook_secret


class WebhookRequest(NamedTuple):
    """The headers and body to post, and the correlation id of the job."""

    headers: dict[str, str]
    body: bytes
    correlation_id: str


async def build_request(
    connection: asyncpg.Connection, settings: Settings, delivery: DueDelivery
) -> WebhookRequest:
    """Build the message about the job's end, with its counts, signed for this attempt.

    Raises SettingsError if the key from which the account's secret was derived is not listed.
    """
    account_id, job_id = delivery.job
    source = await get_secret_source(connection, account_id)
    secret = webhook_secret(settings, account_id, source.salt, key_id=source.key_id)
    job = await jobs.get_job(connection, job_id, account_id=account_id)
    progress = await job_progress.get_counts(connection, delivery.job)
    assert job is not None
    assert progress is not None
    assert job.finished_at is not None
    payload = {
        "event": "job.ended",
        "job": job.id,
        "account": job.account,
        "action": job.action,
        "state": job.state.value,
        "counts": {
            "selected": job.selected,
            "applied": job.applied,
            "unchanged": job.unchanged,
            "rejected": job.rejected,
            "empty": job.empty,
            "propagated": job.propagated,
        },
        "reasons": progress.reasons,
        "finished_at": job.finished_at.isoformat(),
        "correlation_id": job.correlation_id,
    }
    body = json.dumps(payload).encode()
    return WebhookRequest(_headers(secret, delivery, body), body, job.correlation_id)


def _headers(secret: str, delivery: DueDelivery, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "User-Agent": "Sluice",
        "Sluice-Timestamp": timestamp,
        "Sluice-Signature": signature(secret, timestamp, body),
        "Sluice-Delivery": f"{delivery.job.job_id}-{delivery.attempt}",
    }
