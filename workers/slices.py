"""A time slice of work on one lane of a job: chunk after chunk for about a second."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from actions.registry import action_named, all_actions
from db import address_history, chunks, import_chunks, progress
from db.chunks import ClaimedChunk
from db.errors import NOT_THE_WORKS_FAULT
from db.progress import JobToWork, RungLane
from engine.chunk_log import log_processed
from engine.chunk_runner import (
    ChunkDone,
    ChunkFailed,
    ChunkRunner,
    ChunkSuspected,
    LaneAtWork,
)
from engine.finalize import settle_and_complete, settle_and_fail
from engine.planner import count_planned, plan
from engine.retry_policy import HOPELESS, Setbacks, describe
from runtime import events, logs
from schemas.errors import said
from schemas.outcomes import JobState
from workers.context import ChunkInHand, WorkerContext
from workers.lane_recovery import LeftLane, give_back
from workers.queues import is_urgent

log = logs.get()

LANES_WOKEN = 2
"""So many lanes a slice wakes. A process with all its threads at work may fetch the message of one
and leave it lying until it has a thread for it; seldom those of both.
"""

SIGNS_OF_LIFE = 3
"""So many there are, of a slice that lasts, in the time after which a silent lane is looked at."""

INTERRUPTED_SECONDS = 0.1
"""How long, on average, a slice rests after a chunk was rolled back through no fault of its own."""

INTERRUPTIONS = 3
"""After so many in one slice it ends, and the lane rests until the sweeper comes: what is in the
way, a full disk for instance, is not gone in a moment."""


async def start(context: WorkerContext, job_id: int) -> None:
    """Plan the job if need be, wake its lanes, and work a first slice at once.

    The first slice comes with the planning, so that a small job is done before it ever stands
    in the queue behind large ones.
    """
    async with context.pool.acquire() as connection:
        job = await progress.job_to_work(connection, job_id)
        if job is None or not _understood(job) or not await _plan(context, connection, job):
            return
        lanes = await progress.wake_lanes(connection, job_id, fewest=1, most=1)
    for lane in lanes:
        await advance(context, job_id, lane.lane, lane.hop)


async def _plan(context: WorkerContext, connection: asyncpg.Connection, job: JobToWork) -> bool:
    """Whether the job can be worked now."""
    with logs.bound(correlation_id=job.correlation_id):
        if job.state == JobState.PLANNING:
            try:
                return await _plan_now(context, connection, job.id)
            except NOT_THE_WORKS_FAULT:
                raise
            except Exception as error:
                await _fail(context, connection, job, error, describe(error))
                raise
        return job.state == JobState.RUNNING


async def _plan_now(context: WorkerContext, connection: asyncpg.Connection, job_id: int) -> bool:
    settings = context.settings
    planned = await plan(
        connection, job_id, chunk_size=settings.chunk_size, lanes=settings.job_lanes
    )
    if planned is not None and planned.state == JobState.RUNNING:
        return True
    counted = await count_planned(
        connection,
        context.pool,
        job_id,
        chunk_size=settings.chunk_size,
        shared_address_limit=settings.shared_address_limit,
    )
    return counted is JobState.RUNNING


async def advance(context: WorkerContext, job_id: int, lane: int, hop: int) -> None:
    """Work a slice of the job, unless the message was one of an earlier ring."""
    left: _Slice | None = None
    broke = False
    try:
        async with context.pool.acquire() as connection:
            job = await progress.job_to_work(connection, job_id)
            if job is None or not _understood(job):
                return
            taken = await progress.take_lane(connection, job_id, lane, hop, context.name)
            if taken is None:
                return
            # Whoever had the lane before may have been ended by what it was working on.
            left = _Slice(context, connection, job, lane, taken.hop, careful=taken.lost > 0)
            try:
                with logs.bound(correlation_id=job.correlation_id):
                    more = await left.run()
                    hop_after = await progress.leave_lane(
                        connection, job_id, lane, taken.hop, "rung" if more else "idle"
                    )
            except Exception:
                broke = connection.is_closed()
                raise
    except Exception:
        if left is not None:
            await give_back(context, left.as_left(), ring=broke)
        raise
    if more and hop_after is not None:
        rung = [RungLane(lane, hop_after)]
        await context.doorbell.ring_lanes(job_id, rung, urgent=is_urgent(job.action))


def _understood(job: JobToWork) -> bool:
    """Whether this version knows the action. While a newer version is being deployed it may not;
    the job then waits for a worker that does.
    """
    if job.action in all_actions():
        return True
    log.warning(events.JOB_NOT_UNDERSTOOD, job=job.id, account=job.account_id, action=job.action)
    return False


@dataclass(slots=True)
class _Slice:
    """`hop` is the one at which the lane was taken; `careful` has every chunk worked alone.

    `counted` is the chunk of which an attempt was counted and has not come to its end;
    `interruptions` is how often a chunk was rolled back through no fault of its own; `worked` says
    that a chunk was done, and `woke` that other lanes were woken then.
    """

    context: WorkerContext
    connection: asyncpg.Connection
    job: JobToWork
    lane: int
    hop: int
    careful: bool
    counted: int | None = None
    interruptions: int = 0
    worked: bool = False
    woke: bool = False
    task: asyncio.Task[Any] = field(init=False)

    def __post_init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    def as_left(self) -> LeftLane:
        """What there is to give back when the connection broke."""
        return LeftLane(self.job.id, self.job.action, self.lane, self.hop, self.counted)

    async def run(self) -> bool:
        """Work until the time is over; whether there is more to do."""
        living = asyncio.ensure_future(self._show_life())
        try:
            return await self._run()
        finally:
            living.cancel()
            self._has_in_hand(None)

    async def _show_life(self) -> None:
        """Keep the lane from being taken for a lost one's while the slice waits, for its turn for
        instance. One that waits for nothing has ended before the first sign.
        """
        while True:
            await asyncio.sleep(self.context.settings.silence_seconds / SIGNS_OF_LIFE)
            # It waits for a connection: without a sign a living worker would look lost.
            await self._aside(
                lambda connection: progress.touch_lane(connection, self.job.id, self.lane, self.hop)
            )

    async def _aside(self, tell: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        """Tell the database something by another connection than the slice's.

        The slice's own shows nothing to others before it commits.
        """
        try:
            async with self.context.pool.acquire() as connection:
                await tell(connection)
        except NOT_THE_WORKS_FAULT:
            pass
        except Exception as error:
            log.error(
                events.WORKER_FAILED, job=self.job.id, error=type(error).__name__, exc_info=error
            )

    async def _run(self) -> bool:
        if self.job.state != JobState.RUNNING:
            return False
        if await progress.note_start(self.connection, self.job.id):
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
            if self.interruptions == INTERRUPTIONS:
                return False
            more = await self._work_next(runner)
            if self.worked and not self.woke:
                await self._wake_others()
        if more:
            await progress.refresh_counts(self.connection, self.job.id)
        else:
            await self._complete()
        return more

    def _runner(self) -> ChunkRunner:
        return ChunkRunner.of(
            self.job,
            shared_address_limit=self.context.settings.shared_address_limit,
            worker=self.context.name,
        )

    async def _work_next(self, runner: ChunkRunner) -> bool:
        """Work one chunk; whether there was any."""
        try:
            async with self.context.door.among_others():
                return await self._work(runner)
        except ChunkSuspected as suspected:
            return await self._work_alone(runner, suspected.chunk)

    async def _work_alone(self, runner: ChunkRunner, chunk: ClaimedChunk) -> bool:
        """Count the attempt before it is made, in a process that works on nothing else: what it
        may be lost with is then to be counted.
        """
        async with self.context.door.alone():
            if not await chunks.count_attempt(
                self.connection, self.job.id, chunk, lane=self.lane, hop=self.hop
            ):
                # Somebody else was faster; where that has the lane as well, this slice has ended.
                return await progress.has_lane(self.connection, self.job.id, self.lane, self.hop)
            self.counted = chunk.chunk_no
            self._has_in_hand(chunk.chunk_no)
            more = await self._work(runner)
            self.counted = None
            return more

    def _lane_at_work(self) -> LaneAtWork:
        share = self.lane / self.context.settings.job_lanes % 1
        return LaneAtWork(self.lane, share, self.careful, self._note)

    async def _note(self, chunk_no: int) -> None:
        """Note what is in hand, in this process and, if a connection is free, for those who may
        find it lost.
        """
        self._has_in_hand(chunk_no)
        if self.context.pool.has_room:
            await self._aside(
                lambda connection: chunks.note_in_hand(
                    connection, self.job.id, chunk_no, lane=self.lane, hop=self.hop
                )
            )

    async def _put_down(self) -> None:
        """Note that nothing is in hand after a chunk was rolled back: other lanes may take it, and
        a worker that is lost later is not lost with it.
        """
        self._has_in_hand(None)
        await chunks.note_in_hand(self.connection, self.job.id, None, lane=self.lane, hop=self.hop)

    def _has_in_hand(self, chunk_no: int | None) -> None:
        if chunk_no is None:
            self.context.in_hand.pop(self.task, None)
            return
        job = self.job
        self.context.in_hand[self.task] = ChunkInHand(
            job.id, job.account_id, job.action, chunk_no, job.correlation_id
        )

    async def _work(self, runner: ChunkRunner) -> bool:
        """Work one chunk, that whose attempt is counted if there is one; whether there was any."""
        try:
            done = await runner.run_next(
                self.connection, only=self.counted, lane=self._lane_at_work()
            )
        except ChunkFailed as failed:
            await self._failed(failed)
            return True
        if done is not None:
            self._log_chunk(done, done.attempts + (self.counted is None))
            self.worked = True
            return True
        if self.counted is None:
            return False
        # Somebody else was faster.
        await chunks.uncount_attempt(self.connection, self.job.id, self.counted)
        return True

    async def _wake_others(self) -> None:
        """Ring some more lanes, once a slice, after its first chunk was done.

        Not all of a job's lanes: so jobs that begin at the same time take turns from the first
        round on, and a job that has the fleet for itself has all of it in a moment. A lane that has
        done nothing wakes none: lanes that find nothing, or all meet what is in the way, would
        otherwise wake each other in circles.
        """
        self.woke = True
        lanes = await progress.wake_lanes(self.connection, self.job.id, fewest=0, most=LANES_WOKEN)
        await self.context.doorbell.ring_lanes(
            self.job.id, lanes, urgent=is_urgent(self.job.action)
        )

    async def _failed(self, failed: ChunkFailed) -> None:
        error = failed.__cause__
        assert error is not None
        if not failed.at_fault:
            await self._interrupted(failed.chunk.chunk_no, error)
            return
        setbacks = Setbacks(
            self.job,
            action_named(self.job.action).brings_contacts,
            self.context.name,
            self.context.settings.retry_seconds,
        )
        counted = self.counted is not None
        refused = await setbacks.take(self.connection, failed.chunk, error, counted=counted)
        # What comes now may break off, and must not take back what has come to its end.
        self.counted = None
        await self._put_down()
        if refused:
            attempts = failed.chunk.attempts + (not counted)
            self._log_chunk(ChunkDone(failed.chunk.chunk_no, refused, attempts, 0), attempts)
            await self._give_up_if_hopeless(error)

    async def _interrupted(self, chunk_no: int, error: BaseException) -> None:
        """The chunk was rolled back through no fault of its own; raises if the connection broke."""
        log.warning(
            events.CHUNK_INTERRUPTED,
            job=self.job.id,
            account=self.job.account_id,
            action=self.job.action,
            chunk=chunk_no,
            error=type(error).__name__,
            place=logs.place_of(error),
            worker=self.context.name,
        )
        if self.connection.is_closed():
            raise error from None
        if self.counted is not None:
            await chunks.uncount_attempt(self.connection, self.job.id, self.counted)
            self.counted = None
        await self._put_down()
        self.interruptions += 1
        # Whoever it met is to be gone.
        await asyncio.sleep(INTERRUPTED_SECONDS * random.uniform(0.5, 1.5))

    async def _give_up_if_hopeless(self, error: BaseException) -> None:
        text = (
            f"The job was stopped: the first {HOPELESS} contacts all failed, the last with:"
            f" {said(describe(error))}. Nothing was changed. Correct the cause and submit the job"
            " again."
        )
        async with self.connection.transaction():
            await chunks.keep_chunks_out(self.connection, self.job.id)
            if await progress.hopeless(self.connection, self.job.id, refused=HOPELESS):
                await _fail(self.context, self.connection, self.job, error, text)

    def _log_chunk(self, done: ChunkDone, attempt: int) -> None:
        log_processed(self.job, done, attempt=attempt, worker=self.context.name)

    async def _complete(self) -> None:
        """End the job if this was the last of it."""
        try:
            totals = await settle_and_complete(
                self.connection,
                self.job,
                shared_address_limit=self.context.settings.shared_address_limit,
            )
        except NOT_THE_WORKS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 - the database refused the counts
            await _fail(self.context, self.connection, self.job, error, describe(error))
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
        if action_named(self.job.action).brings_contacts:
            log.info(
                events.IMPORT_COMPLETED,
                job=self.job.id,
                account=self.job.account_id,
                action=self.job.action,
                contacts=totals.selected // len(self.job.fields),
                recognised=await address_history.recognised_rows(self.connection, self.job.id),
                refused=await import_chunks.refused_rows(self.connection, self.job.id),
            )


async def _fail(
    context: WorkerContext,
    connection: asyncpg.Connection,
    job: JobToWork,
    error: BaseException,
    text: str,
) -> None:
    """End the job as failed. What of an import arrived before is settled, if that can be done."""
    limit = context.settings.shared_address_limit
    failed = await settle_and_fail(connection, job, text, shared_address_limit=limit)
    if not failed:
        return
    log.error(
        events.JOB_FAILED,
        job=job.id,
        account=job.account_id,
        action=job.action,
        error=type(error).__name__,
    )
