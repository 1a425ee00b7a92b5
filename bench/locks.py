"""How long rows of addresses stay locked, seen from outside and in the same way for everyone."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from bench.effects import sql
from bench.templates import Copy

LOOKING_ON = "bench looking on"
"""What connections are called that take part in no job."""

_LOOK_SECONDS = 0.004
_PROBE_SECONDS = 0.02
_SEED = 23


class Locks:
    """Two views of the same, taken in a thread of its own until it is ended.

    `looking`: every few milliseconds it is asked which transactions hold the table lock that comes
    with locking or changing addresses. One has held it for at least as long as it was seen with it,
    and at most from the look before to the look after. Each of its row locks is younger.

    `probing`: a single address drawn from all of the list is locked, as a change of its status
    would do, and let go at once, again and again. What that takes is what a change would wait.
    """

    def __init__(self, copy: Copy) -> None:
        self._copy = copy
        self._over = threading.Event()
        self._first: dict[str, tuple[float, float]] = {}
        self._held = (0.0, 0.0)
        self._transactions = 0
        self._probes: list[float] = []
        self._longest_gap = 0.0

    def run(self) -> None:
        """Watch until `end`."""
        asyncio.run(self._run())

    def end(self) -> None:
        self._over.set()

    def figures(self) -> dict[str, Any]:
        """Milliseconds; the longest that a lock was held was at least and at most so long."""
        seen, at_most = self._held
        return {
            "transactions": self._transactions,
            "held_ms_seen": round(seen * 1000, 1),
            "held_ms_at_most": round(at_most * 1000, 1),
            "ms_between_looks_at_most": round(self._longest_gap * 1000, 1),
            "probes": len(self._probes),
            "probe_ms_longest": round(max(self._probes, default=0.0) * 1000, 1),
        }

    async def _run(self) -> None:
        connections = [await self._connect() for _ in range(2)]
        try:
            await asyncio.gather(self._look(connections[0]), self._probe(connections[1]))
        finally:
            for connection in connections:
                connection.terminate()

    async def _connect(self) -> asyncpg.Connection:
        named = {"application_name": LOOKING_ON}
        return await asyncpg.connect(self._copy.url, server_settings=named)

    async def _look(self, connection: asyncpg.Connection) -> None:
        last = time.perf_counter()
        while not self._over.is_set():
            began = time.perf_counter()
            holding = {
                row["transaction"]
                async for row in sql.address_lockers(connection, but_not=LOOKING_ON)
            }
            ended = time.perf_counter()
            self._note(holding, before=last, now=ended)
            self._longest_gap = max(self._longest_gap, ended - last)
            last = began
            await asyncio.sleep(_LOOK_SECONDS)
        self._note(set(), before=last, now=time.perf_counter())

    def _note(self, holding: set[str], *, before: float, now: float) -> None:
        """`before` is when the look before this one began, `now` when this one was answered."""
        for transaction in holding - self._first.keys():
            self._first[transaction] = (before, now)
            self._transactions += 1
        for transaction in self._first.keys() - holding:
            absent, first_seen = self._first.pop(transaction)
            seen, at_most = self._held
            self._held = (max(seen, before - first_seen), max(at_most, now - absent))

    async def _probe(self, connection: asyncpg.Connection) -> None:
        template = self._copy.template
        draw = random.Random(_SEED)
        while not self._over.is_set():
            # Not every id between the first and the last address is one; a probe of none is quick.
            address_id = template.first + draw.randrange(2 * template.contacts)
            began = time.perf_counter()
            await sql.lock_one(connection, account_id=template.account_id, address_id=address_id)
            self._probes.append(time.perf_counter() - began)
            await asyncio.sleep(_PROBE_SECONDS)


@asynccontextmanager
async def watched_locks(copy: Copy) -> AsyncIterator[Locks]:
    """The locks of the copy's addresses are watched for as long as the context lasts."""
    locks = Locks(copy)
    thread = asyncio.create_task(asyncio.to_thread(locks.run))
    try:
        yield locks
    finally:
        locks.end()
        await thread
