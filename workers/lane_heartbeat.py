"""How a worker shows that it holds a lane and is alive, and which chunk it works on.

It writes both to the lane's row over a second connection, since its own shows nothing before it
commits. If the worker dies, the sweeper (`workers/sweeper.py`) finds a silent lane without a lock,
gives it a new token and makes its chunk a suspect chunk.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from db import chunks, lanes
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobToWork
from db.lanes import LaneToken
from workers.context import WorkerContext
from workers.server_outages import log_unexpected_error

HEARTBEATS_PER_STALL = 3
"""How many heartbeats a slice sends in the time after which a silent lane counts as stalled."""


class LaneHeartbeat:
    """The heartbeats of the task that holds a lane, and the record of its current chunk."""

    def __init__(self, context: WorkerContext, job: JobToWork, lane: LaneToken) -> None:
        self._context = context
        self._job = job
        self._lane = lane
        task = asyncio.current_task()
        assert task is not None
        self._task = task

    @asynccontextmanager
    async def send(self) -> AsyncIterator[None]:
        """Send heartbeats while the block runs. A short slice ends before the first one."""
        heartbeats = asyncio.ensure_future(self._send_heartbeats())
        try:
            yield
        finally:
            heartbeats.cancel()
            self.set_chunk(None)

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._context.settings.stalled_after_seconds / HEARTBEATS_PER_STALL)
            # Even if the pool is exhausted: without a heartbeat a living worker looks lost.
            await self._run_on_second_connection(
                lambda connection: lanes.touch_lane(connection, self._lane)
            )

    async def record_chunk(self, chunk_no: int) -> None:
        """Record the current chunk in this process, and in the lane if a connection is free."""
        self.set_chunk(chunk_no)
        if self._context.pool.has_room:
            await self._run_on_second_connection(
                lambda connection: chunks.record_current_chunk(connection, self._lane, chunk_no)
            )

    async def clear_chunk(self, connection: asyncpg.Connection) -> None:
        """Record after a rollback that the lane holds no chunk.

        Other lanes may then take that chunk, and it is no suspect if this worker is lost later.
        """
        self.set_chunk(None)
        await chunks.record_current_chunk(connection, self._lane, None)

    def set_chunk(self, chunk_no: int | None) -> None:
        """Set the current chunk in this process only, for the watchdog's log line."""
        if chunk_no is None:
            self._context.current_chunks.pop(self._task, None)
        else:
            keys = {"chunk": chunk_no, "correlation_id": self._job.correlation_id}
            self._context.current_chunks[self._task] = self._job.log_fields | keys

    async def _run_on_second_connection(
        self, work: Callable[[asyncpg.Connection], Awaitable[None]]
    ) -> None:
        try:
            async with self._context.pool.acquire() as connection:
                await work(connection)
        except TRANSIENT_ERRORS:
            pass
        except Exception as error:  # noqa: BLE001 - the slice continues
            log_unexpected_error(error, job=self._job.id)
