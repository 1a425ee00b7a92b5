"""Noticing in a web process that Postgres or Redis went away, and that it is back.

Requests notice only what they need. The log is to say when a server was away, and is to say that it
is back without waiting for the next request that needs it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import redis

from db.deployment import limit_in_force
from db.errors import NOT_THE_WORKS_FAULT, UNREACHABLE
from db.pool import connect_options
from db.progress import require_answer
from runtime import events
from runtime.outages import PROBE_SECONDS, SETTLE_SECONDS, Outage
from runtime.redis_client import redis_client
from runtime.settings import Settings
from runtime.shared_setting import log_difference
from workers.enqueue import outage_of_queue

LOOK_SECONDS = 5.0
"""How often a server that answers is asked, and by a connection that is made for it: those of the
pool may all be at work."""

AWAY_SECONDS = 1.0
"""How often one that is away is asked."""


_AWAY: tuple[type[BaseException], ...] = (*NOT_THE_WORKS_FAULT, *UNREACHABLE, redis.RedisError)


class ServerWatch:
    """Asks both servers from time to time, and has `database.*` and `queue.*` logged."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Outage(
            events.DATABASE_UNREACHABLE, events.DATABASE_RECOVERED, settle_seconds=SETTLE_SECONDS
        )
        self._queue = outage_of_queue(settings)
        self._suspicion = asyncio.Event()
        self._compared = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [
            asyncio.create_task(self._watch(self._database, self._ask_database, self._suspicion)),
            asyncio.create_task(self._watch(self._queue, self._ask_queue, asyncio.Event())),
        ]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def suspect_database(self) -> None:
        """Have Postgres asked now: a request got no answer from it."""
        self._suspicion.set()

    async def _watch(
        self, outage: Outage, ask: Callable[[], Awaitable[None]], suspicion: asyncio.Event
    ) -> None:
        while True:
            suspicion.clear()
            asked_at = time.monotonic()
            try:
                # Not `wait_for`, which in Python 3.11 may swallow the cancelling of its task.
                async with asyncio.timeout(PROBE_SECONDS):
                    await ask()
            except _AWAY as error:
                outage.fails(error, asked_at)
            else:
                await asyncio.to_thread(outage.answers, asked_at, on_new_connection=True)
            seconds = AWAY_SECONDS if outage.lasts else LOOK_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):
                    await suspicion.wait()
            if outage.lasts:
                # Requests that fail meanwhile say nothing new.
                await asyncio.sleep(AWAY_SECONDS / 2)

    async def _ask_database(self) -> None:
        assert self._settings.database_url is not None
        options = connect_options(self._settings.database_url, pgbouncer=self._settings.pgbouncer)
        connection = await asyncpg.connect(**options)
        try:
            await require_answer(connection)
            if not self._compared:
                log_difference(self._settings, await limit_in_force(connection))
                self._compared = True
        finally:
            connection.terminate()

    async def _ask_queue(self) -> None:
        assert self._settings.redis_url is not None
        await asyncio.to_thread(_ping, self._settings.redis_url)


def _ping(url: str) -> None:
    client = redis_client(url)
    try:
        client.ping()
    finally:
        client.close()
