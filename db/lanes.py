"""A job's lanes: its places in the queue. Each is queued, held by a worker, or idle.

If the worker that holds a lane dies, `requeue_stalled_lanes` gives the lane a new token, and its
chunk becomes a suspect chunk. If only its connection breaks, it releases the lane over another one.
"""

from typing import Literal, NamedTuple, TypeAlias

import asyncpg

from db.queries import load
from schemas.job_key import JobKey

_sql = load("lanes")


class LaneToken(NamedTuple):
    """A lane of a job, and its fencing token.

    Each hold and each release gives the lane a new token.
    """

    account_id: int
    job_id: int
    lane: int
    token: int

    @property
    def job(self) -> JobKey:
        """The job's key."""
        return JobKey(self.account_id, self.job_id)


LaneRelease: TypeAlias = Literal["queued", "idle"]
"""The state of a released lane: `queued` to be enqueued by the caller, or `idle`."""


class LaneHold(NamedTuple):
    """A lane that this worker holds, and how many workers in a row were lost with it before."""

    lane: LaneToken
    lost_workers: int


class StalledLane(NamedTuple):
    """A lane that the sweeper enqueues, and the state in which it found it.

    A held lane was lost with its `worker`. `lost_chunk` is the chunk that this worker held, or None
    if it is unknown or done.
    """

    lane: LaneToken
    found: Literal["idle", "queued", "held"]
    worker: str | None
    lost_chunk: int | None


async def insert_lanes(connection: asyncpg.Connection, job: JobKey, lanes: int) -> None:
    """Insert idle lanes: one for each pending chunk, at least one and at most `lanes`."""
    await _sql.insert_lanes(connection, **job._asdict(), lanes=lanes)


async def queue_idle_lanes(
    connection: asyncpg.Connection, job: JobKey, *, min_lanes: int, limit: int
) -> list[LaneToken]:
    """Mark idle lanes of a running job as queued, and return them for the caller to enqueue.

    They are as many as there are runnable chunks, less the lanes that are not idle; but at least
    `min_lanes`, if as many are idle, and at most `limit`.
    """
    rows = _sql.queue_idle_lanes(connection, **job._asdict(), min_lanes=min_lanes, limit=limit)
    return [LaneToken(*job, *row) async for row in rows]


async def hold_lane(
    connection: asyncpg.Connection, lane: LaneToken, *, worker: str
) -> LaneHold | None:
    """Hold the lane for a worker; return None if it has another token by now."""
    row = await _sql.hold_lane(connection, **lane._asdict(), worker=worker)
    return LaneHold(lane._replace(token=row["token"]), row["lost_workers"]) if row else None


async def holds_lane(connection: asyncpg.Connection, lane: LaneToken) -> bool:
    """Return whether the lane still has this token."""
    return bool(await _sql.holds_lane(connection, **lane._asdict()))


async def touch_lane(connection: asyncpg.Connection, lane: LaneToken) -> None:
    """Record that the lane's worker is alive."""
    await _sql.touch_lane(connection, **lane._asdict())


async def release_lane(
    connection: asyncpg.Connection,
    lane: LaneToken,
    *,
    state: LaneRelease,
    is_recovery: bool = False,
) -> LaneToken | None:
    """Release the lane; return it with its next token, or None if another worker has it.

    A slice that ended well resets the count of lost workers. A recovery keeps it.
    """
    token = await _sql.release_lane(
        connection, **lane._asdict(), state=state, is_recovery=is_recovery
    )
    return None if token is None else lane._replace(token=token)


async def requeue_stalled_lanes(
    connection: asyncpg.Connection, job: JobKey, *, limit: int, stalled_after_seconds: float
) -> list[StalledLane]:
    """Return the lanes of the job to enqueue again, at most `limit`.

    The chunk of a lost worker becomes a suspect chunk.
    """
    rows = _sql.requeue_stalled_lanes(
        connection, **job._asdict(), limit=limit, stalled_after_seconds=stalled_after_seconds
    )
    return [StalledLane(LaneToken(*job, *row[:2]), *row[2:]) async for row in rows]
