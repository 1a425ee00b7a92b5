"""The slice: hold a lane, work on chunk after chunk for `SLICE_SECONDS`, and release the lane.

If the connection breaks, the worker releases the lane over a new one
(`workers/broken_connection.py`). If the worker is lost, the sweeper finds the silent lane
(`workers/sweeper.py`).
"""

import asyncio
import random
import time
from dataclasses import dataclass

import asyncpg

from actions.registry import all_actions
from db import chunks, job_progress, lanes
from db.chunks import ChunkResult, ClaimedChunk
from db.job_progress import JobToWork
from db.lanes import LaneHold, LaneToken
from engine.chunk_log import log_processed
from engine.chunk_runner import ActiveLane, ChunkFailed, ChunkRunner, ChunkSuspected
from engine.retry_policy import FailureHandler
from runtime import events, logs
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from workers.broken_connection import release_over_new_connection
from workers.context import WorkerContext
from workers.job_end import complete_job, fail_job_if_only_rejections
from workers.lane_heartbeat import LaneHeartbeat

log = logs.get_logger()

LANES_ENQUEUED_PER_SLICE = 2
"""How many other lanes a slice enqueues. A process without a free thread may fetch one of their
messages and leave it waiting, but seldom both."""

INTERRUPTION_PAUSE_SECONDS = 0.1
"""How long a slice waits, on average, after a transient error rolled a chunk back."""

MAX_INTERRUPTIONS = 3
"""After how many transient errors a slice ends. Its lane stays idle until the sweeper enqueues it,
since a cause such as a full disk lasts longer than a moment."""


async def find_job(connection: asyncpg.Connection, key: JobKey) -> JobToWork | None:
    """Return the job, or None if it does not exist or this version does not know its action.

    While a newer version is deployed, its jobs wait for a worker that knows their actions.
    """
    job = await job_progress.get_job_to_work(connection, key)
    if job is None or job.action in all_actions():
        return job
    log.warning(events.JOB_ACTION_UNKNOWN, **job.log_fields)
    return None


async def advance_lane(context: WorkerContext, lane: LaneToken) -> None:
    """Work on the lane for a slice, unless it has another token by now."""
    lane_slice: _LaneSlice | None = None
    try:
        async with context.pool.acquire() as connection:
            job = await find_job(connection, lane.job)
            if job is None:
                return
            hold = await lanes.hold_lane(connection, lane, worker=context.name)
            if hold is None:
                return
            heartbeat = LaneHeartbeat(context, job, hold.lane)
            lane_slice = _LaneSlice(context, connection, job, hold, heartbeat)
            with logs.bind_context(correlation_id=job.correlation_id):
                released = await lane_slice.run()
    except Exception:
        if lane_slice is not None:
            await release_over_new_connection(
                context,
                lane_slice.hold.lane,
                counted_chunk_no=lane_slice.counted_chunk_no,
                requeue=lane_slice.is_connection_broken,
                action=lane_slice.job.action,
            )
        raise
    if released is not None:
        await context.job_queue.enqueue_lanes([released], action=job.action)


@dataclass(slots=True)
class _LaneSlice:
    """One slice of a lane.

    `counted_chunk_no` is the suspect chunk that is worked on, and None at all other times. Counted
    means that its row already includes the present attempt (`suspect_attempts`), which therefore
    counts even if the process dies. An attempt that says nothing about the chunk is uncounted.
    `interruptions` counts the chunks that a transient error rolled back.
    """

    context: WorkerContext
    connection: asyncpg.Connection
    job: JobToWork
    hold: LaneHold
    heartbeat: LaneHeartbeat
    counted_chunk_no: int | None = None
    interruptions: int = 0
    chunks_done: int = 0
    is_connection_broken: bool = False

    async def run(self) -> LaneToken | None:
        """Work, release the lane, and return it if it is to be enqueued again."""
        try:
            async with self.heartbeat.send():
                has_more = await self._work()
            released = await lanes.release_lane(
                self.connection, self.hold.lane, state="queued" if has_more else "idle"
            )
        except Exception:
            self.is_connection_broken = self.connection.is_closed()
            raise
        return released if has_more else None

    async def _work(self) -> bool:
        """Work until the time is over; return whether the lane is to be enqueued again."""
        job, settings = self.job, self.context.settings
        if job.state != JobState.RUNNING:
            return False
        if await job_progress.mark_started(self.connection, job.key):
            log.info(events.JOB_STARTED, **job.log_fields)
        runner = ChunkRunner.for_job(
            job, role_address_limit=settings.role_address_limit, worker=self.context.name
        )
        ends = time.monotonic() + settings.slice_seconds
        has_enqueued_lanes = False
        while time.monotonic() < ends and not self.context.stopping.is_set():
            if self.interruptions == MAX_INTERRUPTIONS:
                return False
            if not await self._work_next(runner):
                await complete_job(self.context, self.connection, job)
                return False
            if self.chunks_done and not has_enqueued_lanes:
                has_enqueued_lanes = True
                await self._enqueue_other_lanes()
        await job_progress.refresh_counts(self.connection, job.key)
        return True

    async def _work_next(self, runner: ChunkRunner) -> bool:
        """Work on the next chunk; return whether there was one."""
        try:
            async with self.context.chunk_limiter.shared():
                return await self._work_on_chunk(runner)
        except ChunkSuspected as suspected:
            return await self._work_exclusively(runner, suspected.chunk)

    async def _work_exclusively(self, runner: ChunkRunner, chunk: ClaimedChunk) -> bool:
        """Count the attempt, then work on the chunk while the process works on no other.

        If the process is lost, that says something about this chunk.
        """
        lane = self.hold.lane
        async with self.context.chunk_limiter.exclusive():
            if not await chunks.count_attempt(self.connection, lane, chunk):
                # Another worker has the chunk, or has the lane, which ends this slice.
                return await lanes.holds_lane(self.connection, lane)
            self.counted_chunk_no = chunk.chunk_no
            self.heartbeat.set_chunk(chunk.chunk_no)
            has_more = await self._work_on_chunk(runner)
            self.counted_chunk_no = None
            return has_more

    async def _work_on_chunk(self, runner: ChunkRunner) -> bool:
        """Work on the counted chunk, or else on the next one; return whether there was one."""
        number = self.hold.lane.lane
        # The previous holder of the lane may have been lost through the chunk that it worked on.
        active_lane = ActiveLane(
            number,
            share=number / self.context.settings.job_concurrency % 1,
            is_suspect=self.hold.lost_workers > 0,
            record_current=self.heartbeat.record_chunk,
        )
        try:
            done = await runner.run_next(
                self.connection, only_chunk_no=self.counted_chunk_no, lane=active_lane
            )
        except ChunkFailed as failed:
            await self._handle_failure(failed)
            return True
        if done is not None:
            self._log_chunk(done, done.attempts + (self.counted_chunk_no is None))
            self.chunks_done += 1
            return True
        if self.counted_chunk_no is None:
            return False
        # Another worker was faster.
        await chunks.uncount_attempt(self.connection, self.job.key, self.counted_chunk_no)
        return True

    async def _enqueue_other_lanes(self) -> None:
        """Enqueue a few idle lanes, once in a slice, after its first chunk is done.

        Not all of them, so that jobs which begin together take turns; a job alone soon has all
        workers. A lane that has done nothing enqueues none. Otherwise lanes that find no chunk, or
        all meet the same obstacle, would enqueue each other in circles.
        """
        queued = await lanes.queue_idle_lanes(
            self.connection, self.job.key, min_lanes=0, limit=LANES_ENQUEUED_PER_SLICE
        )
        await self.context.job_queue.enqueue_lanes(queued, action=self.job.action)

    async def _handle_failure(self, failed: ChunkFailed) -> None:
        error = failed.__cause__
        assert error is not None
        if not failed.is_chunk_fault:
            await self._handle_interruption(failed.chunk.chunk_no, error)
            return
        failure_handler = FailureHandler(
            self.job, self.context.name, self.context.settings.retry_seconds
        )
        is_counted = self.counted_chunk_no is not None
        rejected = await failure_handler.handle(
            self.connection, failed.chunk, error, is_counted=is_counted
        )
        # The attempt has ended. A recovery after this point must not take it back.
        self.counted_chunk_no = None
        await self.heartbeat.clear_chunk(self.connection)
        if rejected:
            self._log_chunk(rejected, rejected.attempts)
            await fail_job_if_only_rejections(self.context, self.connection, self.job, error)

    async def _handle_interruption(self, chunk_no: int, error: BaseException) -> None:
        """Wait a moment after a transient error rolled the chunk back.

        Raises the error if the connection broke.
        """
        log.warning(
            events.CHUNK_INTERRUPTED,
            **self.job.log_fields,
            chunk=chunk_no,
            error=type(error).__name__,
            location=logs.error_location(error),
        )
        if self.connection.is_closed():
            raise error from None
        if self.counted_chunk_no is not None:
            await chunks.uncount_attempt(self.connection, self.job.key, self.counted_chunk_no)
            self.counted_chunk_no = None
        await self.heartbeat.clear_chunk(self.connection)
        self.interruptions += 1
        # The transaction in the way may end meanwhile.
        await asyncio.sleep(INTERRUPTION_PAUSE_SECONDS * random.uniform(0.5, 1.5))

    def _log_chunk(self, done: ChunkResult, attempt: int) -> None:
        log_processed(self.job, done, attempt=attempt, worker=self.context.name)
