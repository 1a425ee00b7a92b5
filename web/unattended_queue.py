"""Saying that work waits and no worker comes, which workers that are down cannot say themselves."""

import asyncio
import random
import time

import asyncpg

from db import progress
from db.errors import NOT_THE_WORKS_FAULT
from runtime import events, logs
from web.state import Here

log = logs.get()

LOOK_SECONDS = 5.0
"""How often each web process looks: one row, as long as workers come."""

ANSWER_SECONDS = 5.0
"""How long Postgres may take to answer a look."""


async def watch_workers(here: Here) -> None:
    """Look until the process ends. Of several web processes one says it.

    Only what this process has seen counts: workers that start with it, or come back with Postgres,
    have their time to begin.
    """
    limit = here.settings.unattended_seconds
    every_seconds = min(LOOK_SECONDS, limit / 4)
    watching_since = time.monotonic()
    while not await here.closes_within(every_seconds * random.uniform(0.8, 1.2)):
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await look(here, limit, time.monotonic() - watching_since)
        except (*NOT_THE_WORKS_FAULT, asyncpg.PostgresError):
            watching_since = time.monotonic()
        except Exception as error:
            log.error(
                events.WEB_TASK_FAILED,
                task=watch_workers.__name__,
                error=type(error).__name__,
                exc_info=error,
            )


async def look(here: Here, limit: float, watched_seconds: float) -> None:
    """Say what has changed, after `watched_seconds` in which Postgres has answered each look."""
    async with here.pool.acquire() as connection:
        silent_seconds, is_told = await progress.attendance(connection)
    if silent_seconds > limit:
        if watched_seconds > limit:
            await _say_what_waits(here, limit, silent_seconds, is_told=is_told)
    elif is_told:
        await _say_attended(here, silent_seconds)


async def _say_what_waits(
    here: Here, limit: float, silent_seconds: float, *, is_told: bool
) -> None:
    figures = await here.queue_loads.now()
    pending = sum(load.pending_chunks for load in figures.loads)
    if not pending and not figures.due_notices:
        if is_told:
            await _say_attended(here, silent_seconds)
        return
    async with here.pool.acquire() as connection:
        if not await progress.tell_unattended(connection, limit):
            return
    log.error(
        events.QUEUE_UNATTENDED,
        pending_chunks=pending,
        planning_jobs=sum(load.planning_jobs for load in figures.loads),
        oldest_seconds=round(max(load.oldest_seconds for load in figures.loads), 3),
        due_notices=figures.due_notices,
        silent_seconds=round(silent_seconds, 3),
    )


async def _say_attended(here: Here, silent_seconds: float) -> None:
    async with here.pool.acquire() as connection:
        if await progress.tell_attended(connection):
            log.info(events.QUEUE_ATTENDED, silent_seconds=round(silent_seconds, 3))
