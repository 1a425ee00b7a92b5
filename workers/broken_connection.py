"""What a worker does with its lane when its connection to Postgres breaks in the middle of a slice.

The worker lives: it releases the lane over another connection, and takes back the attempt that it
counted. A lost worker runs none of this. The sweeper finds its silent lane (`workers/sweeper.py`).
"""

import asyncio
import random
import time

from db import chunks, lanes
from db.errors import TRANSIENT_ERRORS
from db.lanes import LaneToken
from workers.context import WorkerContext

RECOVERY_TIMEOUT_SECONDS = 60.0
"""How long a worker tries to release the lane. After that, or on SIGTERM, the sweeper finds it."""

_FIRST_WAIT_SECONDS = 0.1
_MAX_WAIT_SECONDS = 1.0


async def release_over_new_connection(
    context: WorkerContext,
    lane: LaneToken,
    *,
    counted_chunk_no: int | None,
    requeue: bool,
    action: str,
) -> None:
    """Release the lane as soon as there is a connection, and enqueue it if `requeue` is true.

    Only a broken connection is a reason to enqueue it. The cause of another transient error may
    still be there, so the lane stays idle until the sweeper enqueues it. `counted_chunk_no` is the
    chunk whose attempt was counted before it was made, if any.
    """
    ends = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
    wait = _FIRST_WAIT_SECONDS
    while time.monotonic() < ends and not context.stopping.is_set():
        try:
            async with context.pool.acquire() as connection, connection.transaction():
                if counted_chunk_no is not None:
                    await chunks.uncount_attempt(connection, lane.job, counted_chunk_no)
                released = await lanes.release_lane(
                    connection, lane, state="queued" if requeue else "idle", is_recovery=True
                )
            break
        except TRANSIENT_ERRORS:
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, _MAX_WAIT_SECONDS)
    else:
        return
    if requeue and released is not None:
        await context.job_queue.enqueue_lanes([released], action=action)
