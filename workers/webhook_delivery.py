"""Telling those who asked for it that their job has ended.

A completion webhook is a signed POST to the job's `completion_url`. It comes at least once: a
worker can be killed after the receiver has answered, before that is noted. `Sluice-Delivery` is the
job's id and the attempt; a receiver that must act once goes by the job. Receivers may be slow, so
no connection to Postgres and no transaction is held meanwhile.
"""

import asyncio
import random
import time
from collections import Counter
from typing import Any

import httpcore

from db import webhook_deliveries
from db.errors import TRANSIENT_ERRORS
from db.webhook_deliveries import DueDelivery
from runtime import events, logs
from schemas.errors import SettingsError
from workers.context import WorkerContext
from workers.server_outages import Outages
from workers.webhook_client import (
    MAX_HEAD_BYTES,
    TOTAL_TIMEOUT_SECONDS,
    NotPublicError,
    ResponseTooLargeError,
    post_webhook,
)
from workers.webhook_message import WebhookRequest, build_request

log = logs.get_logger()

POLL_SECONDS = 1.0
"""How long a notice may be due before an idle worker looks for it."""

MAX_CONCURRENT_DELIVERIES = 8
"""How many receivers a process waits for at a time."""

MAX_DELIVERIES_PER_ACCOUNT = 2
"""How many of them may be of one account, so that its slow receiver does not hold up the others."""

MAX_ATTEMPTS = 12
"""How often it is tried, which with the waits between takes some six hours."""

MAX_RETRY_SECONDS = 3600.0

LEASE_SECONDS = 3 * TOTAL_TIMEOUT_SECONDS
"""After this time others take it that the process which has a notice in hand is no more."""

GONE = 410
"""By this status a receiver says that it wants no more of it."""


class WebhookDelivery:
    """Delivers what is due, several at a time. One per worker process, on its event loop."""

    def __init__(self, context: WorkerContext, outages: Outages) -> None:
        self._context = context
        self._outages = outages
        self._claiming = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accounts: Counter[int] = Counter()
        self._withheld_logged = False
        self._stopped = False

    async def deliver_due(self, _context: WorkerContext) -> None:
        """Begin to deliver what is due, as far as there is room; the periodic task."""
        if self._context.settings.signing_keys is None:
            await self._log_withheld()
            return
        while len(self._tasks) < MAX_CONCURRENT_DELIVERIES and (notice := await self._claim()):
            task = asyncio.create_task(self._deliver_all(notice))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Leave deliveries in progress to the process that comes when their lease is over.

        Call it on the event loop.
        """
        self._stopped = True
        for task in self._tasks:
            task.cancel()

    async def _log_withheld(self) -> None:
        if self._withheld_logged:
            return
        async with self._context.pool.acquire() as connection:
            self._withheld_logged = await webhook_deliveries.has_due(connection)
        if self._withheld_logged:
            log.warning(events.WEBHOOK_WITHHELD, worker=self._context.name)

    async def _claim(self) -> DueDelivery | None:
        if self._stopped or self._context.stopping.is_set():
            return None
        async with self._claiming:
            busy = [id_ for id_, n in self._accounts.items() if n >= MAX_DELIVERIES_PER_ACCOUNT]
            async with self._context.pool.acquire() as connection:
                notice = await webhook_deliveries.claim_due(
                    connection, busy=busy, lease_seconds=LEASE_SECONDS
                )
            if notice is not None:
                self._accounts[notice.job.account_id] += 1
            return notice

    async def _deliver_all(self, first: DueDelivery) -> None:
        """Deliver the webhook, and then others, until none is due."""
        notice: DueDelivery | None = first
        try:
            while notice is not None:
                try:
                    await self._deliver(notice)
                finally:
                    self._accounts[notice.job.account_id] -= 1
                notice = await self._claim()
        except TRANSIENT_ERRORS:
            # The periodic task meets the outage as well, and says so. The lease will end.
            return
        except Exception as error:  # noqa: BLE001 - there is nobody else to tell
            self._outages.log_task_error("deliver_due", error)

    async def _deliver(self, notice: DueDelivery) -> None:
        """Try it once, and note what came of it."""
        try:
            async with self._context.pool.acquire() as connection:
                request = await build_request(connection, self._context.settings, notice)
        except SettingsError as missing:
            await self._record_failure(notice, None, missing, _log_fields(notice, None))
            return
        began = time.monotonic()
        status, error = await self._post(notice, request)
        took = round((time.monotonic() - began) * 1000, 1)
        fields = _log_fields(notice, status, correlation_id=request.correlation_id)
        if status is not None and 200 <= status < 300:  # noqa: PLR2004 - the 2xx of HTTP
            async with self._context.pool.acquire() as connection:
                await webhook_deliveries.mark_delivered(connection, notice)
            log.info(events.WEBHOOK_DELIVERED, **fields, duration_ms=took)
        else:
            await self._record_failure(notice, status, error, fields)

    async def _post(
        self, notice: DueDelivery, request: WebhookRequest
    ) -> tuple[int | None, BaseException | None]:
        """Post the webhook; return the response's status, or the error that kept it from coming."""
        allow_private = self._context.settings.allow_private_webhooks
        try:
            status = await post_webhook(
                notice.url, headers=request.headers, body=request.body, allow_private=allow_private
            )
        except Exception as error:  # noqa: BLE001 - a receiver can fail in any way
            return None, error
        return status, None

    async def _record_failure(
        self,
        notice: DueDelivery,
        status: int | None,
        error: BaseException | None,
        fields: dict[str, Any],
    ) -> None:
        sentence = describe_failure(status, error)
        kind = None if error is None else error_name(error)
        if status == GONE or notice.attempt >= MAX_ATTEMPTS:
            async with self._context.pool.acquire() as connection:
                await webhook_deliveries.mark_abandoned(connection, notice, error=sentence)
            log.warning(events.WEBHOOK_ABANDONED, **fields, error=kind)
            return
        delay = retry_seconds(notice.attempt)
        async with self._context.pool.acquire() as connection:
            await webhook_deliveries.mark_failed(
                connection, notice, error=sentence, delay_seconds=delay
            )
        log.info(events.WEBHOOK_FAILED, **fields, error=kind, retry_in_seconds=round(delay, 1))


def _log_fields(notice: DueDelivery, status: int | None, **more: str) -> dict[str, Any]:
    return {
        "job": notice.job.job_id,
        "account": notice.job.account_id,
        "attempt": notice.attempt,
        "http_status": status,
        **more,
    }


def retry_seconds(attempt: int) -> float:
    """Return the seconds from this attempt, counted from 1, to the next one.

    They are 1, 4, 16 and so on, up to an hour, with a fifth of jitter so that failed deliveries do
    not come back together.
    """
    return min(4.0 ** (attempt - 1), MAX_RETRY_SECONDS) * random.uniform(0.8, 1.2)


def error_name(error: BaseException) -> str:
    """Name the root cause: the network's error if there is one, not httpcore's wrapper
    around it.
    """
    kind, below = type(error).__name__, error.__cause__ or error.__context__
    while below is not None:
        if isinstance(below, OSError):
            kind = type(below).__name__
        below = below.__cause__ or below.__context__
    return kind


def describe_failure(status: int | None, error: BaseException | None) -> str:
    """Describe the failed delivery for the submitter of the job, never with the URL."""
    if status is not None:
        return f"The receiver answered {status}."
    if isinstance(error, SettingsError):
        return "The key that the account's secret was derived by is not among SIGNING_KEYS."
    if isinstance(error, NotPublicError):
        return "The URL's host is not known, or leads to no address of the public internet."
    if isinstance(error, TimeoutError | httpcore.TimeoutException):
        return f"The receiver did not answer within {TOTAL_TIMEOUT_SECONDS:.0f} seconds."
    if isinstance(error, ResponseTooLargeError):
        return f"The head of the receiver's answer has more than {MAX_HEAD_BYTES // 1024} KB."
    assert error is not None
    return f"The receiver could not be reached ({error_name(error)})."
