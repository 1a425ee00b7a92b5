"""What a worker repairs by another connection after its own broke in the middle of a slice.

A lane that is not released counts as lost with its worker, and its chunks become suspect: each
attempt is counted before it is made. When Postgres restarts or a connection ends, no worker is
lost, and no chunk must look as if it had ended one.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import asyncpg

from db import chunks, lanes
from db.errors import TRANSIENT_ERRORS
from db.lanes import LaneRelease, LaneToken
from workers.context import WorkerContext
from workers.queue_names import is_urgent

T = TypeVar("T")

RECOVERY_TIMEOUT_SECONDS = 60.0
"""How long it is tried. Afterwards, or when the worker is to stop, the sweeper finds the lane."""

_FIRST_WAIT_SECONDS = 0.1
_MAX_WAIT_SECONDS = 1.0


class HeldLane(NamedTuple):
    """A lane that this worker still holds, the job's action, and the chunk of which an attempt was
    counted before it was made.
    """

    lane: LaneToken
    action: str
    counted_chunk_no: int | None


async def recover_lane(context: WorkerContext, held: HeldLane, *, requeue: bool) -> None:
    """Release the lane as soon as there is a connection, and enqueue it again if `requeue` is true.

    After a transient error other than a broken connection, its cause may still be there: the lane
    then stays idle until the sweeper comes.
    """

    async def release(connection: asyncpg.Connection) -> LaneToken | None:
        async with connection.transaction():
            if held.counted_chunk_no is not None:
                await chunks.uncount_attempt(connection, held.lane.job, held.counted_chunk_no)
            state: LaneRelease = "queued" if requeue else "idle"
            return await lanes.release_lane(connection, held.lane, state=state, is_recovery=True)

    released = await _retry_until_connected(context, release)
    if requeue and released is not None:
        await context.job_queue.enqueue_lanes([released], urgent=is_urgent(held.action))


async def _retry_until_connected(
    context: WorkerContext, work: Callable[[asyncpg.Connection], Awaitable[T]]
) -> T | None:
    ends = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
    wait = _FIRST_WAIT_SECONDS
    while time.monotonic() < ends and not context.stopping.is_set():
        try:
            async with context.pool.acquire() as connection:
                return await work(connection)
        except TRANSIENT_ERRORS:
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _MAX_WAIT_SECONDS)
    return None
