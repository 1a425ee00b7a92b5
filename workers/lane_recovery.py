"""What a worker sets right by another connection after its own broke in the middle of a slice.

A lane that nobody gives back counts as one whose worker was lost, and chunks are then worked with
care: each attempt is counted before it is made. When Postgres restarts, or a connection is ended,
no worker is lost, and no chunk must look as if it had ended one.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import asyncpg

from db import chunks, progress
from db.errors import NOT_THE_WORKS_FAULT
from db.progress import RungLane
from workers.context import WorkerContext
from workers.queues import is_urgent

T = TypeVar("T")

GIVE_BACK_SECONDS = 60.0
"""How long it is tried. Afterwards, or when the worker is to stop, the sweeper finds the lane."""

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 1.0


class LeftLane(NamedTuple):
    """A lane that this worker still has, at the hop at which it took it, and the chunk of which an
    attempt was counted before it was made.
    """

    job_id: int
    action: str
    lane: int
    hop: int
    counted: int | None


async def give_back(context: WorkerContext, left: LeftLane, *, ring: bool) -> None:
    """Leave the lane as soon as there is a connection, and `ring` it again.

    Where it was not the connection that broke, whatever was in the way may still be there: the lane
    then rests until the sweeper comes.
    """

    async def leave(connection: asyncpg.Connection) -> int | None:
        async with connection.transaction():
            if left.counted is not None:
                await chunks.uncount_attempt(connection, left.job_id, left.counted)
            return await progress.give_back_lane(
                connection, left.job_id, left.lane, left.hop, "rung" if ring else "idle"
            )

    hop = await _as_soon_as_possible(context, leave)
    if ring and hop is not None:
        await context.doorbell.ring_lanes(
            left.job_id, [RungLane(left.lane, hop)], urgent=is_urgent(left.action)
        )


async def _as_soon_as_possible(
    context: WorkerContext, work: Callable[[asyncpg.Connection], Awaitable[T]]
) -> T | None:
    ends = time.monotonic() + GIVE_BACK_SECONDS
    wait = _FIRST_WAIT_SECONDS
    while time.monotonic() < ends and not context.stopping.is_set():
        try:
            async with context.pool.acquire() as connection:
                return await work(connection)
        except NOT_THE_WORKS_FAULT:
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
    return None
