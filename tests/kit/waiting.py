"""Wait for a condition with a deadline, instead of sleeping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import asyncpg

T = TypeVar("T")

TIMEOUT_FACTOR = 4.0
"""Deadlines are multiplied by this factor because the machine may be busy. A test of the time
itself passes 1.
"""

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 0.1
_POLL_SHARE = 0.05
"""The longer a wait has lasted, the less often its condition is checked."""


def wait_for(condition: Callable[[], T], seconds: float) -> T:
    """Return the first truthy value of `condition`, or its last value after the timeout."""
    began = time.monotonic()
    while True:
        value = condition()
        waited = time.monotonic() - began
        if value or waited > seconds:
            return value
        time.sleep(_next_poll(waited))


async def wait_for_async(condition: Callable[[], T | Awaitable[T]], seconds: float) -> T:
    """Like `wait_for`, without blocking the loop; `condition` may be a coroutine function."""
    began = time.monotonic()
    while True:
        value = condition()
        value = await value if inspect.isawaitable(value) else cast("T", value)
        waited = time.monotonic() - began
        if value or waited > seconds:
            return value
        await asyncio.sleep(_next_poll(waited))


def wait_until(
    condition: Callable[[], T],
    *,
    deadline_seconds: float,
    what: str,
    timeout_factor: float = TIMEOUT_FACTOR,
) -> T:
    """Return the first truthy value of `condition`; fail with `what` after the deadline."""
    seconds = deadline_seconds * timeout_factor
    return _require(wait_for(condition, seconds), seconds, what)


async def wait_until_async(
    condition: Callable[[], T | Awaitable[T]],
    *,
    deadline_seconds: float,
    what: str,
    timeout_factor: float = TIMEOUT_FACTOR,
) -> T:
    """Like `wait_until`, without blocking the loop; `condition` may be a coroutine function."""
    seconds = deadline_seconds * timeout_factor
    return _require(await wait_for_async(condition, seconds), seconds, what)


def _require(value: T, seconds: float, what: str) -> T:
    if not value:
        raise AssertionError(f"not within {seconds} s: {what}")
    return value


def _next_poll(waited: float) -> float:
    return min(max(_FIRST_POLL_SECONDS, waited * _POLL_SHARE), _LAST_POLL_SECONDS)


async def wait_until_lock_contended(pool: asyncpg.Pool, *, what: str) -> None:
    """Wait until a session of this database waits for a lock that another session holds."""
    await wait_until_async(
        lambda: pool.fetchval(
            "select exists (select from pg_locks join pg_stat_activity using (pid)"
            " where not granted and datname = current_database())"
        ),
        deadline_seconds=20,
        what=what,
    )


async def wait_until_lanes_idle(pool: asyncpg.Pool, *, for_seconds: float = 1.0) -> None:
    """Wait until no lane of any job has been claimed or released for this time."""
    last: tuple[int, float] | None = None

    async def rest() -> bool:
        nonlocal last
        tokens = await pool.fetchval("select coalesce(sum(token), 0)::bigint from job_lanes")
        now = time.monotonic()
        if last is None or last[0] != tokens:
            last = (tokens, now)
        return now - last[1] >= for_seconds

    await wait_until_async(rest, deadline_seconds=20, what="all lanes rest")
