"""Delivering completion webhooks: signed POST requests to the `completion_url` of an ended job.

A webhook is delivered at least once: a worker can be killed after the receiver has answered, before
that is stored. `Sluice-Delivery` is the job's id and the attempt; a receiver that must act only
once remembers the job's id. Receivers may be slow, so no connection to Postgres is held meanwhile.
"""

import asyncio
import random
import time
from collections import Counter
from http import HTTPStatus
from typing import Any

import httpcore

from db import webhook_deliveries
from db.errors import TRANSIENT_ERRORS
from db.webhook_deliveries import DueDelivery
from runtime import events, logs
from schemas.errors import SettingsError
from workers.context import WorkerContext
from workers.server_outages import log_unexpected_error
from workers.webhook_client import (
    MAX_HEAD_BYTES,
    TOTAL_TIMEOUT_SECONDS,
    NotPublicError,
    ResponseTooLargeError,
    post_webhook,
)
from workers.webhook_message import build_request

log = logs.get_logger()

POLL_SECONDS = 1.0
"""How often a worker process looks for due deliveries."""

MAX_CONCURRENT_DELIVERIES = 8
"""How many receivers a process waits for at a time."""

MAX_DELIVERIES_PER_ACCOUNT = 2
"""How many of them may be of one account, so that a slow receiver delays no other account."""

MAX_ATTEMPTS = 12
"""How many times a webhook is tried. The delays between take 4.3 to 6.5 hours."""

MAX_RETRY_SECONDS = 3600.0
"""The longest delay between two attempts."""

LEASE_SECONDS = 3 * TOTAL_TIMEOUT_SECONDS
"""After this time without a result, another process makes the delivery again."""


class WebhookDelivery:
    """Delivers due webhooks, several at a time. One per worker process, on its event loop."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._claiming = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accounts: Counter[int] = Counter()
        self._withheld_logged = False

    async def deliver_due(self, _context: WorkerContext) -> None:
        """Start due deliveries up to the limits; the periodic task."""
        if self._context.settings.signing_keys is None:
            await self._log_withheld()
            return
        while len(self._tasks) < MAX_CONCURRENT_DELIVERIES and (delivery := await self._claim()):
            task = asyncio.create_task(self._deliver_all(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cut off the deliveries in progress: another process makes them when their lease ends.

        Call it on the event loop.
        """
        for task in self._tasks:
            task.cancel()

    async def _log_withheld(self) -> None:
        if self._withheld_logged:
            return
        async with self._context.pool.acquire() as connection:
            self._withheld_logged = await webhook_deliveries.has_due(connection)
        if self._withheld_logged:
            log.warning(events.WEBHOOK_WITHHELD)

    async def _claim(self) -> DueDelivery | None:
        if self._context.stopping.is_set():
            return None
        async with self._claiming:
            busy = [id_ for id_, n in self._accounts.items() if n >= MAX_DELIVERIES_PER_ACCOUNT]
            async with self._context.pool.acquire() as connection:
                delivery = await webhook_deliveries.claim_due(
                    connection, busy=busy, lease_seconds=LEASE_SECONDS
                )
            if delivery is not None:
                self._accounts[delivery.job.account_id] += 1
            return delivery

    async def _deliver_all(self, first: DueDelivery) -> None:
        """Deliver the webhook, and then others, until none is due."""
        delivery: DueDelivery | None = first
        try:
            while delivery is not None:
                try:
                    await self._deliver(delivery)
                finally:
                    self._accounts[delivery.job.account_id] -= 1
                delivery = await self._claim()
        except TRANSIENT_ERRORS:
            # The periodic task also meets the outage, and logs it. The lease will end.
            return
        except Exception as error:  # noqa: BLE001 - nothing awaits the task
            log_unexpected_error(error, task="deliver_due")

    async def _deliver(self, delivery: DueDelivery) -> None:
        """Try it once, and store the result."""
        try:
            async with self._context.pool.acquire() as connection:
                request = await build_request(connection, self._context.settings, delivery)
        except SettingsError as error:
            await self._record_failure(delivery, None, error, _log_fields(delivery, None))
            return
        status: int | None = None
        post_error: BaseException | None = None
        started = time.monotonic()
        try:
            status = await post_webhook(
                delivery.url,
                headers=request.headers,
                body=request.body,
                allow_private=self._context.settings.allow_private_webhooks,
            )
        except Exception as error:  # noqa: BLE001 - a receiver can fail in any way
            post_error = error
        duration_ms = round((time.monotonic() - started) * 1000, 1)
        fields = _log_fields(delivery, status, correlation_id=request.correlation_id)
        if status is not None and 200 <= status < 300:  # noqa: PLR2004 - the 2xx of HTTP
            async with self._context.pool.acquire() as connection:
                await webhook_deliveries.mark_delivered(connection, delivery)
            log.info(events.WEBHOOK_DELIVERED, **fields, duration_ms=duration_ms)
        else:
            await self._record_failure(delivery, status, post_error, fields)

    async def _record_failure(
        self,
        delivery: DueDelivery,
        status: int | None,
        error: BaseException | None,
        fields: dict[str, Any],
    ) -> None:
        sentence = describe_failure(status, error)
        kind = None if error is None else error_name(error)
        is_last = status == HTTPStatus.GONE or delivery.attempt >= MAX_ATTEMPTS
        delay = None if is_last else retry_seconds(delivery.attempt)
        async with self._context.pool.acquire() as connection:
            await webhook_deliveries.mark_failed(
                connection, delivery, error=sentence, delay_seconds=delay
            )
        if delay is None:
            log.warning(events.WEBHOOK_ABANDONED, **fields, error=kind)
        else:
            log.info(events.WEBHOOK_FAILED, **fields, error=kind, retry_in_seconds=round(delay, 1))


def _log_fields(delivery: DueDelivery, status: int | None, **more: str) -> dict[str, Any]:
    return {
        "job": delivery.job.job_id,
        "account": delivery.job.account_id,
        "attempt": delivery.attempt,
        "http_status": status,
        **more,
    }


def retry_seconds(attempt: int) -> float:
    """Return the seconds from this attempt, counted from 1, to the next one.

    They are 1, 4, 16 and so on, up to an hour, varied by a fifth so that failed deliveries do not
    all return at the same time.
    """
    return min(4.0 ** (attempt - 1), MAX_RETRY_SECONDS) * random.uniform(0.8, 1.2)


def error_name(error: BaseException) -> str:
    """Return the type of the network's error if there is one, otherwise of httpcore's error."""
    kind, cause = type(error).__name__, error.__cause__ or error.__context__
    while cause is not None:
        if isinstance(cause, OSError):
            kind = type(cause).__name__
        cause = cause.__cause__ or cause.__context__
    return kind


def describe_failure(status: int | None, error: BaseException | None) -> str:
    """Describe the failed delivery for the submitter of the job, without the URL."""
    if status is not None:
        return f"The receiver answered {status}."
    if isinstance(error, SettingsError):
        return "The key from which the account's secret was derived is not in SIGNING_KEYS."
    if isinstance(error, NotPublicError):
        return "The URL's host is unknown or has no public address."
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return f"The receiver did not answer within {TOTAL_TIMEOUT_SECONDS:.0f} seconds."
    if isinstance(error, ResponseTooLargeError):
        return f"The receiver's response head has more than {MAX_HEAD_BYTES // 1024} KB."
    assert error is not None
    return f"The receiver could not be reached ({error_name(error)})."
