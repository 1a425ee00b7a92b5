"""How jobs fare beside others: small ones beside a large one, and large ones beside each other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import asyncpg

from bench.measuring import EVIDENCE, Stand, Task
from bench.unsubscribing import sql
from producers.control import cancel
from producers.submit import submit
from schemas.requests import JobRequest, Selection

_POLL_SECONDS = 0.05
_BOTH = ("email1", "email2")


async def beside_jobs(stand: Stand, account: str, work: Awaitable[Any]) -> tuple[Any, int]:
    """The result of `work`, during which jobs over the whole account run without a gap, and how
    many were begun; the last one is cancelled.
    """
    begun = 0
    current = 0

    async def keep_busy() -> None:
        nonlocal begun, current
        while True:
            action = ("opt_in", "opt_out")[begun % 2]
            submitted = await submit(
                stand.pool, stand.settings, Task(account, action, _BOTH).request()
            )
            begun, current = begun + 1, submitted.job_id
            await until(partial(_ended, stand.pool, current))

    busy = asyncio.create_task(keep_busy())
    try:
        await until(lambda: _begun(stand.pool, current))
        result = await work
    finally:
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
    if not await _ended(stand.pool, current):
        await cancel(stand.pool, stand.settings, None, current)
    return result, begun


async def small_job(
    stand: Stand, account: str, action: str, contacts: Sequence[int]
) -> dict[str, Any]:
    """A job of a few contacts: seconds from its submission to its start and its end."""
    request = JobRequest(
        account=account,
        action=action,
        selection=Selection(contacts=tuple(contacts)),
        fields=_BOTH,
        evidence=EVIDENCE if action == "opt_in" else None,
        requested_by="the benchmark",
    )
    submitted = await submit(stand.pool, stand.settings, request)
    await until(partial(_ended, stand.pool, submitted.job_id))
    async with stand.pool.acquire() as connection:
        started, finished, _ = await sql.job_times(connection, job_id=submitted.job_id)
    return {"contacts": len(contacts), "started_s": round(started, 3), "done_s": round(finished, 3)}


async def alike(stand: Stand, accounts: Sequence[str]) -> dict[str, Any]:
    """A large job in each account, all submitted at once: what each has done when the first of
    them is half done.
    """
    jobs = [
        (await submit(stand.pool, stand.settings, Task(name, "opt_in", _BOTH).request())).job_id
        for name in accounts
    ]
    shares: list[float] = []

    async def half() -> bool:
        nonlocal shares
        async with stand.pool.acquire() as connection:
            shares = [row["share"] async for row in sql.shares(connection, job_ids=jobs)]
        return max(shares) >= 0.5

    await until(half)
    for job in jobs:
        await until(partial(_ended, stand.pool, job))
    async with stand.pool.acquire() as connection:
        latest = await sql.latest_start(connection, job_ids=jobs)
    return {
        "jobs": len(jobs),
        "share_least": round(min(shares), 3),
        "share_most": round(max(shares), 3),
        "last_started_s": round(latest, 3),
    }


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once the condition is true."""
    while True:
        if await condition():
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _begun(pool: asyncpg.Pool, job_id: int) -> bool:
    async with pool.acquire() as connection:
        row = await sql.job_times(connection, job_id=job_id)
    return row is not None and row["started"] is not None


async def _ended(pool: asyncpg.Pool, job_id: int) -> bool:
    async with pool.acquire() as connection:
        _, finished, state = await sql.job_times(connection, job_id=job_id)
    if state in {"failed", "cancelled"}:
        raise RuntimeError(f"Job {job_id} is {state}.")
    return finished is not None
