"""Saying once that a server went away, and once that it came back: one line per outage and process,
not one per attempt, of which an outage of a minute has thousands.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import asyncpg
from dramatiq.errors import BrokerConnectionError

from db import progress
from db.failures import IN_THE_WAY, NOT_THE_WORKS_FAULT
from runtime import events, logs
from runtime.events import Event

log = logs.get()

PROBE_SECONDS = 5.0

SETTLE_SECONDS = 2.0
"""A Postgres that is shut down refuses new connections while those that are open still answer: for
a second, where it is busy."""


class Outage:
    """What this process knows about one server; any thread may tell it.

    Of what is asked within `settle_seconds` of a failure an answer says nothing yet.
    """

    def __init__(self, away: Event, back: Event, *, settle_seconds: float = 0, **keys: str) -> None:
        self._away, self._back, self._keys = away, back, keys
        self._settle_seconds = settle_seconds
        self._lock = threading.Lock()
        self._down = False
        self._failed_at = self._back_at = 0.0
        self._when_back: list[Callable[[], None]] = []

    def when_back(self, act: Callable[[], None]) -> None:
        """Have this done each time the server is back, before anybody is told."""
        self._when_back.append(act)

    @property
    def lasts(self) -> bool:
        """Whether the server was away when it was last tried."""
        return self._down

    def fails(self, error: BaseException, asked_at: float) -> None:
        """The server did not answer what it was asked at that time, by the monotonic clock.

        What it was asked before it was back says nothing of how it is now: time-outs come in late.
        """
        with self._lock:
            if asked_at <= self._back_at:
                return
            begins, self._down = not self._down, True
            self._failed_at = time.monotonic()
        if begins:
            log.warning(self._away, error=type(error).__name__, **self._keys)

    def answers(self, asked_at: float, *, on_new_connection: bool = False) -> None:
        """The server answers what it was asked at that time.

        What it was asked before it failed somebody else says nothing: such answers come in late.
        What it is asked on a connection that was made for it says so without settling.
        """
        if not self._down:
            return
        settles = 0.0 if on_new_connection else self._settle_seconds
        with self._lock:
            if not self._down or asked_at <= self._failed_at + settles:
                return
            self._down = False
            self._back_at = time.monotonic()
        for act in self._when_back:
            act()
        log.info(self._back, **self._keys)


def queue_outage(**keys: str) -> Outage:
    """What is known about Redis."""
    return Outage(events.QUEUE_UNREACHABLE, events.QUEUE_RECOVERED, settle_seconds=0, **keys)


class Outages:
    """What this worker process knows about its two servers."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self.database = Outage(
            events.DATABASE_UNREACHABLE,
            events.DATABASE_RECOVERED,
            settle_seconds=SETTLE_SECONDS,
            worker=worker,
        )
        self.queue = queue_outage(worker=worker)

    async def work_fails(
        self, pool: asyncpg.Pool, error: BaseException, job_id: int | None = None
    ) -> None:
        """Something failed through no fault of its own: the connection broke, or something was in
        the way. `job_id` is the job that it was for, where there is one.

        Whether Postgres itself is away shows a connection that is tried now: one that was ended is
        no outage, and several that end one after the other are not several.
        """
        if isinstance(error, IN_THE_WAY):
            log.warning(
                events.WORKER_INTERRUPTED,
                worker=self._worker,
                job=job_id,
                error=type(error).__name__,
                place=logs.place_of(error),
            )
            return
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_SECONDS), pool.acquire() as connection:
                await progress.require_answer(connection)
        except NOT_THE_WORKS_FAULT as refused:
            self.database.fails(refused, asked_at)
        else:
            self.database.answers(asked_at)

    def task_fails(self, task: str, error: BaseException) -> None:
        """A periodic task raised what it never should."""
        log.error(
            events.WORKER_FAILED,
            worker=self._worker,
            task=task,
            error=type(error).__name__,
            exc_info=error,
        )


def is_about_an_outage(record: logging.LogRecord) -> bool:
    """Whether a library's line tells of an attempt to reach Redis that failed: dramatiq writes one
    for each, and `Outage` has told of all of them.
    """
    arguments = record.args if isinstance(record.args, tuple) else ()
    return any(isinstance(argument, BrokerConnectionError) for argument in arguments)
