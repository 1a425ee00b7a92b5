"""A job's places in the queue, by which workers come to it."""

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
"""How a lane is left: to be enqueued, or to rest until the sweeper or another lane enqueues it."""


class LaneHold(NamedTuple):
    """A lane that this worker holds now, and how many workers were lost while they held it."""

    lane: LaneToken
    lost_workers: int


class StalledLane(NamedTuple):
    """A lane that the sweeper enqueues, and how it was found: `idle`, `queued` or `held`.

    A held lane was lost with the process `worker`. `lost_chunk` is the chunk that this process
    worked on, if it is known and not done.
    """

    lane: LaneToken
    found: Literal["idle", "queued", "held"]
    worker: str | None
    lost_chunk: int | None


async def insert_lanes(connection: asyncpg.Connection, job: JobKey, lanes: int) -> None:
    """Insert the job's lanes, at most `lanes`, as idle."""
    await _sql.insert_lanes(connection, **job._asdict(), lanes=lanes)


async def queue_idle_lanes(
    connection: asyncpg.Connection, job: JobKey, *, min_lanes: int, limit: int
) -> list[LaneToken]:
    """Mark idle lanes of a running job as queued and return them, for the caller to enqueue.

    They are at most `limit`. Beyond `min_lanes` they are no more than would find a chunk, one
    chunk being left for the caller.
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

    A slice that ended well clears the count of lost workers; a recovery leaves it as it is.
    """
    token = await _sql.release_lane(
        connection, **lane._asdict(), state=state, is_recovery=is_recovery
    )
    return None if token is None else lane._replace(token=token)


async def requeue_stalled_lanes(
    connection: asyncpg.Connection, job: JobKey, *, limit: int, stalled_after_seconds: float
) -> list[StalledLane]:
    """Return the lanes of the job to enqueue again, at most `limit`.

    A chunk that was lost with its worker is suspect from now on.
    """
    rows = _sql.requeue_stalled_lanes(
        connection, **job._asdict(), limit=limit, stalled_after_seconds=stalled_after_seconds
    )
    return [StalledLane(LaneToken(*job, *row[:2]), *row[2:]) async for row in rows]
