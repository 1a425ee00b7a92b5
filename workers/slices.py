"""A time slice of work on one lane of a job: chunk after chunk for about a second."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from actions.registry import all_actions, get_action
from db import address_history, chunks, import_chunks, job_progress, lanes
from db.chunks import ClaimedChunk
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobToWork
from db.lanes import LaneToken
from engine.chunk_log import log_processed
from engine.chunk_runner import (
    ActiveLane,
    ChunkFailed,
    ChunkResult,
    ChunkRunner,
    ChunkSuspected,
)
from engine.finalize import complete_job, fail_job
from engine.planner import forecast_job, plan_job
from engine.retry_policy import MAX_REJECTED_WITHOUT_SUCCESS, FailureHandler, describe_error
from runtime import events, logs
from schemas.errors import error_text
from schemas.job_key import JobKey
from schemas.outcomes import JobState
from workers.context import CurrentChunk, WorkerContext
from workers.lane_recovery import HeldLane, recover_lane
from workers.queue_names import is_urgent

log = logs.get_logger()

LANES_ENQUEUED_PER_SLICE = 2
"""So many lanes a slice wakes. A process with all its threads at work may fetch the message of one
and leave it lying until it has a thread for it; seldom those of both.
"""

HEARTBEATS_PER_STALL = 3
"""So many there are, of a slice that lasts, in the time after which a silent lane is looked at."""

INTERRUPTION_PAUSE_SECONDS = 0.1
"""How long, on average, a slice rests after a chunk was rolled back through no fault of its own."""

MAX_INTERRUPTIONS = 3
"""After so many in one slice it ends, and the lane rests until the sweeper comes: what is in the
way, a full disk for instance, is not gone in a moment."""


async def start_job(context: WorkerContext, key: JobKey) -> None:
    """Plan the job if need be, wake its lanes, and work a first slice at once.

    So a small job is done before it ever waits in the queue behind large ones.
    """
    async with context.pool.acquire() as connection:
        job = await job_progress.get_job_to_work(connection, key)
        if (
            job is None
            or not _is_known_action(job)
            or not await _ensure_planned(context, connection, job)
        ):
            return
        woken = await lanes.queue_idle_lanes(connection, key, min_lanes=1, limit=1)
    for lane in woken:
        await advance_lane(context, lane)


async def _ensure_planned(
    context: WorkerContext, connection: asyncpg.Connection, job: JobToWork
) -> bool:
    """Plan the job if it waits for that; return whether its chunks can be worked on now."""
    with logs.bind_context(correlation_id=job.correlation_id):
        if job.state == JobState.PLANNING:
            try:
                return await _plan_or_forecast(context, connection, job.key)
            except TRANSIENT_ERRORS:
                raise
            except Exception as error:
                await _fail_job(context, connection, job, error, describe_error(error))
                raise
        return job.state == JobState.RUNNING


async def _plan_or_forecast(
    context: WorkerContext, connection: asyncpg.Connection, job: JobKey
) -> bool:
    settings = context.settings
    planned = await plan_job(
        connection, job, chunk_size=settings.chunk_size, max_lanes=settings.job_concurrency
    )
    if planned is not None and planned.state == JobState.RUNNING:
        return True
    counted = await forecast_job(
        connection,
        context.pool,
        job,
        chunk_size=settings.chunk_size,
        shared_address_limit=settings.shared_address_limit,
    )
    return counted is JobState.RUNNING


async def advance_lane(context: WorkerContext, lane: LaneToken) -> None:
    """Work a slice of the job, unless the lane has another token by now."""
    lane_slice: _LaneSlice | None = None
    broke = False
    try:
        async with context.pool.acquire() as connection:
            job = await job_progress.get_job_to_work(connection, lane.job)
            if job is None or not _is_known_action(job):
                return
            taken = await lanes.hold_lane(connection, lane, worker=context.name)
            if taken is None:
                return
            # Whoever had the lane before may have been ended by what it was working on.
            lane_slice = _LaneSlice(
                context, connection, job, taken.lane, is_suspect=taken.lost_workers > 0
            )
            try:
                with logs.bind_context(correlation_id=job.correlation_id):
                    more = await lane_slice.run()
                    released = await lanes.release_lane(
                        connection, taken.lane, state="queued" if more else "idle"
                    )
            except Exception:
                broke = connection.is_closed()
                raise
    except Exception:
        if lane_slice is not None:
            await recover_lane(context, lane_slice.held_lane(), requeue=broke)
        raise
    if more and released is not None:
        await context.job_queue.enqueue_lanes([released], urgent=is_urgent(job.action))


def _is_known_action(job: JobToWork) -> bool:
    """Return whether this version knows the action.

    It may not while a newer version is being deployed; the job then waits for a worker that does.
    """
    if job.action in all_actions():
        return True
    log.warning(events.JOB_ACTION_UNKNOWN, job=job.id, account=job.account_id, action=job.action)
    return False


@dataclass(slots=True)
class _LaneSlice:
    """`is_suspect` has each chunk worked alone.

    `counted_chunk_no` is the chunk with an attempt that was counted and has not ended.
    `interruptions` is how often a transient error rolled a chunk back. `has_worked` says that a
    chunk was done, and `has_enqueued_lanes` that other lanes were queued then.
    """

    context: WorkerContext
    connection: asyncpg.Connection
    job: JobToWork
    lane: LaneToken
    is_suspect: bool
    counted_chunk_no: int | None = None
    interruptions: int = 0
    has_worked: bool = False
    has_enqueued_lanes: bool = False
    task: asyncio.Task[Any] = field(init=False)

    def __post_init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    def held_lane(self) -> HeldLane:
        """Describe the lane to be given back if the connection broke."""
        return HeldLane(self.lane, self.job.action, self.counted_chunk_no)

    async def run(self) -> bool:
        """Work until the time is over; whether there is more to do."""
        heartbeat = asyncio.ensure_future(self._send_heartbeats())
        try:
            return await self._run()
        finally:
            heartbeat.cancel()
            self._set_current_chunk(None)

    async def _send_heartbeats(self) -> None:
        """Keep the lane from being taken for a lost one's while the slice waits, for its turn for
        instance. One that waits for nothing has ended before the first sign.
        """
        while True:
            await asyncio.sleep(self.context.settings.stalled_after_seconds / HEARTBEATS_PER_STALL)
            # It waits for a connection: without a sign a living worker would look lost.
            await self._run_on_other_connection(
                lambda connection: lanes.touch_lane(connection, self.lane)
            )

    async def _run_on_other_connection(
        self, work: Callable[[asyncpg.Connection], Awaitable[None]]
    ) -> None:
        """Tell the database something by another connection than the slice's.

        The slice's own shows nothing to others before it commits.
        """
        try:
            async with self.context.pool.acquire() as connection:
                await work(connection)
        except TRANSIENT_ERRORS:
            pass
        except Exception as error:
            log.error(
                events.WORKER_FAILED, job=self.job.id, error=type(error).__name__, exc_info=error
            )

    async def _run(self) -> bool:
        if self.job.state != JobState.RUNNING:
            return False
        if await job_progress.mark_started(self.connection, self.job.key):
            log.info(
                events.JOB_STARTED,
                job=self.job.id,
                account=self.job.account_id,
                action=self.job.action,
            )
        runner = self._runner()
        ends = time.monotonic() + self.context.settings.slice_seconds
        more = True
        while more and time.monotonic() < ends and not self.context.stopping.is_set():
            if self.interruptions == MAX_INTERRUPTIONS:
                return False
            more = await self._work_next(runner)
            if self.has_worked and not self.has_enqueued_lanes:
                await self._enqueue_other_lanes()
        if more:
            await job_progress.refresh_counts(self.connection, self.job.key)
        else:
            await self._complete_job()
        return more

    def _runner(self) -> ChunkRunner:
        return ChunkRunner.for_job(
            self.job,
            shared_address_limit=self.context.settings.shared_address_limit,
            worker=self.context.name,
        )

    async def _work_next(self, runner: ChunkRunner) -> bool:
        """Work one chunk; whether there was any."""
        try:
            async with self.context.chunk_limiter.shared():
                return await self._work_chunk(runner)
        except ChunkSuspected as suspected:
            return await self._work_exclusively(runner, suspected.chunk)

    async def _work_exclusively(self, runner: ChunkRunner, chunk: ClaimedChunk) -> bool:
        """Count the attempt before it is made, while the process works on nothing else.

        Then a loss of the process says something about this chunk.
        """
        async with self.context.chunk_limiter.exclusive():
            if not await chunks.count_attempt(self.connection, self.lane, chunk):
                # Somebody else was faster; where that has the lane as well, this slice has ended.
                return await lanes.holds_lane(self.connection, self.lane)
            self.counted_chunk_no = chunk.chunk_no
            self._set_current_chunk(chunk.chunk_no)
            more = await self._work_chunk(runner)
            self.counted_chunk_no = None
            return more

    def _active_lane(self) -> ActiveLane:
        share = self.lane.lane / self.context.settings.job_concurrency % 1
        return ActiveLane(self.lane.lane, share, self.is_suspect, self._record_current_chunk)

    async def _record_current_chunk(self, chunk_no: int) -> None:
        """Note what is in hand, in this process and, if a connection is free, for those who may
        find it lost.
        """
        self._set_current_chunk(chunk_no)
        if self.context.pool.has_room:
            await self._run_on_other_connection(
                lambda connection: chunks.record_current_chunk(connection, self.lane, chunk_no)
            )

    async def _clear_current_chunk(self) -> None:
        """Note that no chunk is held after a rollback.

        Other lanes may take it, and a later loss of the worker is not its fault.
        """
        self._set_current_chunk(None)
        await chunks.record_current_chunk(self.connection, self.lane, None)

    def _set_current_chunk(self, chunk_no: int | None) -> None:
        if chunk_no is None:
            self.context.current_chunks.pop(self.task, None)
            return
        job = self.job
        self.context.current_chunks[self.task] = CurrentChunk(
            job.id, job.account_id, job.action, chunk_no, job.correlation_id
        )

    async def _work_chunk(self, runner: ChunkRunner) -> bool:
        """Work one chunk, that whose attempt is counted if there is one; whether there was any."""
        try:
            done = await runner.run_next(
                self.connection, only_chunk_no=self.counted_chunk_no, lane=self._active_lane()
            )
        except ChunkFailed as failed:
            await self._handle_failure(failed)
            return True
        if done is not None:
            self._log_chunk(done, done.attempts + (self.counted_chunk_no is None))
            self.has_worked = True
            return True
        if self.counted_chunk_no is None:
            return False
        # Somebody else was faster.
        await chunks.uncount_attempt(self.connection, self.job.key, self.counted_chunk_no)
        return True

    async def _enqueue_other_lanes(self) -> None:
        """Queue some more lanes, once a slice, after its first chunk was done.

        Not all of a job's lanes: so jobs that begin together take turns from the first round on,
        and a job that has the fleet for itself soon has all of it. A lane that has done nothing
        queues none: otherwise lanes that find nothing, or all meet the same obstacle, would queue
        each other in circles.
        """
        self.has_enqueued_lanes = True
        woken = await lanes.queue_idle_lanes(
            self.connection, self.job.key, min_lanes=0, limit=LANES_ENQUEUED_PER_SLICE
        )
        await self.context.job_queue.enqueue_lanes(woken, urgent=is_urgent(self.job.action))

    async def _handle_failure(self, failed: ChunkFailed) -> None:
        error = failed.__cause__
        assert error is not None
        if not failed.is_chunk_fault:
            await self._handle_interruption(failed.chunk.chunk_no, error)
            return
        failure_handler = FailureHandler(
            self.job, self.context.name, self.context.settings.retry_seconds
        )
        counted = self.counted_chunk_no is not None
        refused = await failure_handler.handle(
            self.connection, failed.chunk, error, is_counted=counted
        )
        # What comes now may break off, and must not take back what has come to its end.
        self.counted_chunk_no = None
        await self._clear_current_chunk()
        if refused:
            attempts = failed.chunk.attempts + (not counted)
            self._log_chunk(ChunkResult(failed.chunk.chunk_no, refused, attempts, 0), attempts)
            await self._fail_job_without_success(error)

    async def _handle_interruption(self, chunk_no: int, error: BaseException) -> None:
        """Handle a chunk that a transient error rolled back; raises if the connection broke."""
        log.warning(
            events.CHUNK_INTERRUPTED,
            job=self.job.id,
            account=self.job.account_id,
            action=self.job.action,
            chunk=chunk_no,
            error=type(error).__name__,
            location=logs.error_location(error),
            worker=self.context.name,
        )
        if self.connection.is_closed():
            raise error from None
        if self.counted_chunk_no is not None:
            await chunks.uncount_attempt(self.connection, self.job.key, self.counted_chunk_no)
            self.counted_chunk_no = None
        await self._clear_current_chunk()
        self.interruptions += 1
        # Whoever it met is to be gone.
        await asyncio.sleep(INTERRUPTION_PAUSE_SECONDS * random.uniform(0.5, 1.5))

    async def _fail_job_without_success(self, error: BaseException) -> None:
        text = (
            f"The job was stopped: the first {MAX_REJECTED_WITHOUT_SUCCESS} contacts all"
            " failed, the last with:"
            f" {error_text(describe_error(error))}. Nothing was changed. Correct the cause and"
            " submit the job"
            " again."
        )
        async with self.connection.transaction():
            await chunks.lock_job_exclusive(self.connection, self.job.id)
            if await job_progress.has_only_rejections(
                self.connection, self.job.key, refused=MAX_REJECTED_WITHOUT_SUCCESS
            ):
                await _fail_job(self.context, self.connection, self.job, error, text)

    def _log_chunk(self, done: ChunkResult, attempt: int) -> None:
        log_processed(self.job, done, attempt=attempt, worker=self.context.name)

    async def _complete_job(self) -> None:
        """End the job if this was the last of it."""
        try:
            totals = await complete_job(
                self.connection,
                self.job,
                shared_address_limit=self.context.settings.shared_address_limit,
            )
        except TRANSIENT_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - the database refused the counts
            await _fail_job(self.context, self.connection, self.job, error, describe_error(error))
            return
        if totals is None:
            return
        log.info(
            events.JOB_COMPLETED,
            job=self.job.id,
            account=self.job.account_id,
            action=self.job.action,
            **totals._asdict(),
        )
        if get_action(self.job.action).creates_contacts:
            log.info(
                events.IMPORT_COMPLETED,
                job=self.job.id,
                account=self.job.account_id,
                action=self.job.action,
                contacts=totals.selected // len(self.job.fields),
                recognized=await address_history.recognized_rows(self.connection, self.job.key),
                rejected_rows=await import_chunks.count_rejected_rows(
                    self.connection, self.job.key
                ),
            )


async def _fail_job(
    context: WorkerContext,
    connection: asyncpg.Connection,
    job: JobToWork,
    error: BaseException,
    text: str,
) -> None:
    """End the job as failed. What of an import arrived before is settled, if that can be done."""
    limit = context.settings.shared_address_limit
    failed = await fail_job(connection, job, text, shared_address_limit=limit)
    if not failed:
        return
    log.error(
        events.JOB_FAILED,
        job=job.id,
        account=job.account_id,
        action=job.action,
        error=type(error).__name__,
    )
