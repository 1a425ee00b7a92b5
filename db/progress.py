"""A job's life between plan and end, and the lanes by which workers come to it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

import asyncpg

from db.queries import load

_sql = load("progress")


class JobToWork(NamedTuple):
    """What a worker needs to know of a job; only `state` and the times ever change."""

    id: int
    account_id: int
    action: str
    state: str
    fields: list[int]
    params: dict[str, Any]
    correlation_id: str
    planned_at: datetime | None
    started_at: datetime | None


class JobTotals(NamedTuple):
    """What became of a completed job's pairs, and its age in seconds."""

    selected: int
    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    seconds: float


class LaneHold(NamedTuple):
    """A lane that this worker has now; so many workers were `lost` while they had it."""

    hop: int
    lost: int


class QueuedLane(NamedTuple):
    """A lane to send a message for; the message counts while the lane has this token."""

    lane: int
    hop: int


class StalledLane(NamedTuple):
    """A lane that the sweeper enqueues, and the state in which it was found.

    A held lane was lost with the process `worker`; `lost_chunk` is the chunk it worked on, if it is
    known and not done.
    """

    lane: int
    hop: int
    found: Literal["idle", "rung", "taken"]
    worker: str | None
    lost_chunk: int | None

    @property
    def rung(self) -> QueuedLane:
        """What to send."""
        return QueuedLane(self.lane, self.hop)


class RunningJob(NamedTuple):
    """A job that should be making progress."""

    id: int
    account_id: int
    action: str
    correlation_id: str


class QueueLoad(NamedTuple):
    """What waits for a worker in one queue.

    A job that waits for its plan, or only for its end, counts as one chunk. `work_seconds` is how
    long the work would take one chunk after the other, and `lanes` how many it can be done in.
    """

    queue: str
    pending_chunks: int
    planning_jobs: int
    oldest_seconds: float
    running_jobs: int
    work_seconds: float
    lanes: int


class WorkerAbsence(NamedTuple):
    """For how long no worker has come, and whether that was said."""

    unattended_for_seconds: float
    is_told: bool


class Suggestion(NamedTuple):
    """How many workers are suggested since `at`, by Postgres's clock in seconds since 1970, and
    the most that were needed after that.
    """

    workers: int
    peak: int
    at: float


CHUNK_SECONDS = 0.1
"""What a chunk is taken to last as long as none of its queue has been done in the last minutes."""

PLAN_SECONDS = 0.1
"""What a plan is taken to last."""


async def ping(connection: asyncpg.Connection) -> None:
    """Raise what the driver raises unless Postgres answers."""
    await _sql.ping(connection)


async def get_job_to_work(connection: asyncpg.Connection, job_id: int) -> JobToWork | None:
    """Return what a worker needs to know of the job; None if there is no such job."""
    row = await _sql.get_job_to_work(connection, job_id=job_id)
    return JobToWork(*row) if row else None


async def mark_started(connection: asyncpg.Connection, job_id: int) -> bool:
    """Record that work has begun; True for the first worker only."""
    return bool(await _sql.mark_started(connection, job_id=job_id))


async def refresh_counts(connection: asyncpg.Connection, job_id: int) -> None:
    """Bring the counts of the job's row up to its chunks'."""
    await _sql.refresh_counts(connection, job_id=job_id)


async def has_pending_chunks(connection: asyncpg.Connection, job_id: int) -> bool:
    """Return whether the job cannot be completed yet, or not at all."""
    return bool(await _sql.has_pending_chunks(connection, job_id=job_id))


async def complete_job(connection: asyncpg.Connection, job_id: int) -> JobTotals | None:
    """End the job if nothing is left to do.

    Raises asyncpg.CheckViolationError when its counts do not add up.
    """
    row = await _sql.complete_job(connection, job_id=job_id)
    return JobTotals(*row) if row else None


async def fail_job(connection: asyncpg.Connection, job_id: int, error: str) -> bool:
    """End the job as failed; whether it had not ended before."""
    return await _sql.fail_job(connection, job_id=job_id, error=error) is not None


async def has_only_rejections(connection: asyncpg.Connection, job_id: int, *, refused: int) -> bool:
    """Return whether `refused` contacts were refused at last and none was ever done."""
    return bool(await _sql.has_only_rejections(connection, job_id=job_id, refused=refused))


async def insert_lanes(connection: asyncpg.Connection, job_id: int, lanes: int) -> None:
    """Make the job's lanes, at most `lanes`, at rest."""
    await _sql.insert_lanes(connection, job_id=job_id, lanes=lanes)


async def queue_idle_lanes(
    connection: asyncpg.Connection, job_id: int, *, min_lanes: int, limit: int
) -> list[QueuedLane]:
    """Queue idle lanes of a running job and return them; none if the job does not run.

    At most `limit` are queued. Beyond `min_lanes`, only as many as would find a chunk, not counting
    the caller's.
    """
    rows = _sql.queue_idle_lanes(connection, job_id=job_id, min_lanes=min_lanes, limit=limit)
    return [QueuedLane(*row) async for row in rows]


async def hold_lane(
    connection: asyncpg.Connection, job_id: int, lane: int, hop: int, worker: str
) -> LaneHold | None:
    """Hold a lane; None if the message has an earlier token."""
    row = await _sql.hold_lane(connection, job_id=job_id, lane=lane, hop=hop, worker=worker)
    return LaneHold(*row) if row else None


async def holds_lane(connection: asyncpg.Connection, job_id: int, lane: int, hop: int) -> bool:
    """Return whether the lane still has that token."""
    return bool(await _sql.holds_lane(connection, job_id=job_id, lane=lane, hop=hop))


async def touch_lane(connection: asyncpg.Connection, job_id: int, lane: int, hop: int) -> None:
    """Show that the lane's worker lives."""
    await _sql.touch_lane(connection, job_id=job_id, lane=lane, hop=hop)


async def release_lane(
    connection: asyncpg.Connection,
    job_id: int,
    lane: int,
    hop: int,
    state: Literal["rung", "idle"],
) -> int | None:
    """Release a lane; return the token to enqueue it with, or None if another worker has
    it by now.
    """
    hop_after: int | None = await _sql.release_lane(
        connection, job_id=job_id, lane=lane, hop=hop, state=state
    )
    return hop_after


async def recover_lane(
    connection: asyncpg.Connection,
    job_id: int,
    lane: int,
    hop: int,
    state: Literal["rung", "idle"],
) -> int | None:
    """Release a lane after its work broke off; return the token to enqueue it with, or None as
    above.
    """
    hop_after: int | None = await _sql.recover_lane(
        connection, job_id=job_id, lane=lane, hop=hop, state=state
    )
    return hop_after


async def try_sweep(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Take the turn to sweep; False if another process had it less than `every_seconds` ago."""
    return bool(await _sql.try_sweep(connection, every_seconds=every_seconds))


async def try_begin_queue_stats(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Take the turn to measure; False if another process had it less than `every_seconds` ago."""
    return bool(await _sql.try_begin_queue_stats(connection, every_seconds=every_seconds))


async def list_stalled_plans(
    connection: asyncpg.Connection, stalled_after_seconds: float
) -> list[tuple[int, str]]:
    """Return (job, action) of the jobs that wait for a plan and must be enqueued again."""
    rows = _sql.list_stalled_plans(connection, stalled_after_seconds=stalled_after_seconds)
    return [tuple(row) async for row in rows]


async def list_running_jobs(connection: asyncpg.Connection) -> list[RunningJob]:
    """List the running jobs of all accounts, for the sweeper."""
    return [RunningJob(*row) async for row in _sql.list_running_jobs(connection)]


async def requeue_stalled_lanes(
    connection: asyncpg.Connection, job_id: int, *, limit: int, stalled_after_seconds: float
) -> list[StalledLane]:
    """Return the lanes of the job to enqueue again, at most `limit`.

    A chunk that was lost with its worker is a suspect chunk from now on.
    """
    rows = _sql.requeue_stalled_lanes(
        connection, job_id=job_id, limit=limit, stalled_after_seconds=stalled_after_seconds
    )
    return [StalledLane(*row) async for row in rows]


async def read_queue_loads(
    connection: asyncpg.Connection, urgent_actions: Sequence[str], job_concurrency: int
) -> list[QueueLoad]:
    """Return what waits in each queue, where a job has at most `job_concurrency` lanes."""
    rows = _sql.read_queue_loads(
        connection,
        urgent_actions=urgent_actions,
        job_concurrency=job_concurrency,
        chunk_seconds=CHUNK_SECONDS,
        plan_seconds=PLAN_SECONDS,
    )
    return [QueueLoad(*row) async for row in rows]


async def count_due_deliveries(connection: asyncpg.Connection) -> int:
    """Return how many completion webhooks wait to be delivered."""
    count: int = await _sql.count_due_deliveries(connection)
    return count


async def get_worker_absence(connection: asyncpg.Connection) -> WorkerAbsence:
    """Return for how long no worker has come."""
    return WorkerAbsence(*await _sql.get_worker_absence(connection))


async def try_report_absence(connection: asyncpg.Connection, every_seconds: float) -> bool:
    """Take the turn to report that no worker comes."""
    return bool(await _sql.try_report_absence(connection, every_seconds=every_seconds))


async def try_report_return(connection: asyncpg.Connection) -> bool:
    """Take the turn to report that workers come again."""
    return bool(await _sql.try_report_return(connection))


async def get_suggestion(connection: asyncpg.Connection) -> tuple[Suggestion | None, float]:
    """Return the last suggestion, if there was one, and Postgres's time."""
    workers, peak, at, now = await _sql.get_suggestion(connection)
    return (None if at is None else Suggestion(workers, peak, at)), now


async def store_suggestion(
    connection: asyncpg.Connection, new: Suggestion, before: Suggestion | None
) -> None:
    """Keep a suggestion, unless another process has kept one after `before`."""
    await _sql.store_suggestion(
        connection,
        workers=new.workers,
        peak=new.peak,
        at=new.at,
        workers_before=before and before.workers,
        peak_before=before and before.peak,
    )
