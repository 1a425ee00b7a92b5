"""Logs that work waits and no worker comes, which workers that are down cannot log."""

import asyncio
import random
import time

import asyncpg

from db import sweeps
from db.errors import TRANSIENT_ERRORS
from runtime import events, logs
from web.state import AppState

log = logs.get_logger()

CHECK_SECONDS = 5.0
"""How often each web process checks; that reads one row while workers come."""

QUERY_TIMEOUT_SECONDS = 5.0
"""How long Postgres may take to answer a check."""


async def watch_queue(state: AppState) -> None:
    """Check until the shutdown; one web process logs for all.

    Log no absence before this process has watched for the limit, so that workers can start, or
    reconnect after an outage of Postgres.
    """
    limit = state.settings.unattended_seconds
    every_seconds = min(CHECK_SECONDS, limit / 4)
    watching_since = time.monotonic()
    while not await state.wait_for_shutdown(every_seconds * random.uniform(0.8, 1.2)):
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
                await check_queue(state, limit, time.monotonic() - watching_since)
        except (*TRANSIENT_ERRORS, asyncpg.PostgresError):
            watching_since = time.monotonic()
        except Exception as error:
            log.error(
                events.WEB_TASK_FAILED,
                task=watch_queue.__name__,
                error=type(error).__name__,
                exc_info=error,
            )


async def check_queue(state: AppState, limit: float, watched_seconds: float) -> None:
    """Log that no worker comes once `watched_seconds` exceeds `limit`, or that workers are back."""
    async with state.pool.acquire() as connection:
        unattended_for_seconds, is_reported = await sweeps.get_worker_absence(connection)
    if unattended_for_seconds > limit:
        if watched_seconds > limit:
            await _report_waiting(state, limit, unattended_for_seconds, is_reported=is_reported)
    elif is_reported:
        await _report_attended(state, unattended_for_seconds)


async def _report_waiting(
    state: AppState, limit: float, unattended_for_seconds: float, *, is_reported: bool
) -> None:
    stats = await state.queue_stats.read()
    pending = sum(load.pending_chunks for load in stats.loads)
    if not pending and not stats.due_webhooks:
        if is_reported:
            await _report_attended(state, unattended_for_seconds)
        return
    async with state.pool.acquire() as connection:
        if not await sweeps.try_report_absence(connection, limit):
            return
    log.error(
        events.QUEUE_UNATTENDED,
        pending_chunks=pending,
        planning_jobs=sum(load.planning_jobs for load in stats.loads),
        oldest_seconds=round(max(load.oldest_seconds for load in stats.loads), 3),
        due_webhooks=stats.due_webhooks,
        unattended_for_seconds=round(unattended_for_seconds, 3),
    )


async def _report_attended(state: AppState, unattended_for_seconds: float) -> None:
    async with state.pool.acquire() as connection:
        if await sweeps.try_report_return(connection):
            log.info(events.QUEUE_ATTENDED, unattended_for_seconds=round(unattended_for_seconds, 3))
