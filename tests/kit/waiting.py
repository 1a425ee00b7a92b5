"""Waiting for what should become true, in place of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import asyncpg

T = TypeVar("T")

TIMEOUT_FACTOR = 4.0
"""How many times its deadline a condition is waited for, since the machine may be busy. Where the
time itself is what is claimed, the caller asks for 1.
"""

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 0.1
_POLL_SHARE = 0.05
"""What was waited for long already is asked for less often."""


def wait_until(
    condition: Callable[[], T],
    *,
    deadline_seconds: float,
    what: str,
    timeout_factor: float = TIMEOUT_FACTOR,
) -> T:
    """The first truthy value of `condition`; fails, naming `what`, when the deadline passes."""
    deadline_seconds *= timeout_factor
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        if waited > deadline_seconds:
            raise AssertionError(f"not within {deadline_seconds} s: {what}")
        time.sleep(_next_poll(waited))
    return value


async def wait_until_async(
    condition: Callable[[], T | Awaitable[T]],
    *,
    deadline_seconds: float,
    what: str,
    timeout_factor: float = TIMEOUT_FACTOR,
) -> T:
    """The same for a condition that may be a coroutine function; the event loop goes on."""
    deadline_seconds *= timeout_factor
    began = time.monotonic()
    while True:
        value = condition()
        value = await value if inspect.isawaitable(value) else cast("T", value)
        if value:
            return value
        waited = time.monotonic() - began
        if waited > deadline_seconds:
            raise AssertionError(f"not within {deadline_seconds} s: {what}")
        await asyncio.sleep(_next_poll(waited))


def _next_poll(waited: float) -> float:
    return min(max(_FIRST_POLL_SECONDS, waited * _POLL_SHARE), _LAST_POLL_SECONDS)


async def wait_until_lock_contended(pool: asyncpg.Pool, *, what: str) -> None:
    """Wait until a session of this database wants a lock that another one has."""
    await wait_until_async(
        lambda: pool.fetchval(
            "select exists (select from pg_locks join pg_stat_activity using (pid)"
            " where not granted and datname = current_database())"
        ),
        deadline_seconds=20,
        what=what,
    )


async def wait_until_lanes_idle(pool: asyncpg.Pool, *, for_seconds: float = 1.0) -> None:
    """Wait until no lane of any job has been taken or left for so long."""
    last: tuple[int, float] | None = None

    async def rest() -> bool:
        nonlocal last
        hops = await pool.fetchval("select coalesce(sum(token), 0)::bigint from job_lanes")
        now = time.monotonic()
        if last is None or last[0] != hops:
            last = (hops, now)
        return now - last[1] >= for_seconds

    await wait_until_async(rest, deadline_seconds=20, what="all lanes rest")
