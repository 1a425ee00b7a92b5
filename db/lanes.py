"""A job's places in the queue, by which workers come to it."""

from typing import Literal, NamedTuple

import asyncpg

from db.queries import load

_sql = load("lanes")


class LaneHold(NamedTuple):
    """A lane that this worker holds now; so many workers were lost while they held it."""

    token: int
    lost_workers: int


class QueuedLane(NamedTuple):
    """A lane to enqueue a message for, which is dropped when the lane has another token by then."""

    lane: int
    token: int


class StalledLane(NamedTuple):
    """A lane that the sweeper enqueues, and how it was found: `idle`, `queued` or `held`.

    A held one was lost with the process `worker`; `lost_chunk` is what that had in hand, where it
    is known and not done.
    """

    lane: int
    token: int
    found: Literal["idle", "queued", "held"]
    worker: str | None
    lost_chunk: int | None

    @property
    def queued(self) -> QueuedLane:
        """What to enqueue."""
        return QueuedLane(self.lane, self.token)


async def insert_lanes(
    connection: asyncpg.Connection, account_id: int, job_id: int, lanes: int
) -> None:
    """Make the job's lanes, at most `lanes`, at rest."""
    await _sql.insert_lanes(connection, account_id=account_id, job_id=job_id, lanes=lanes)


async def queue_idle_lanes(
    connection: asyncpg.Connection, account_id: int, job_id: int, *, min_lanes: int, limit: int
) -> list[QueuedLane]:
    """Idle lanes, to be enqueued now: at most `limit`, and beyond `min_lanes` only as many as would
    find a chunk besides the one for who asks. None of a job that does not run.
    """
    rows = _sql.queue_idle_lanes(
        connection, account_id=account_id, job_id=job_id, min_lanes=min_lanes, limit=limit
    )
    return [QueuedLane(*row) async for row in rows]


async def hold_lane(
    connection: asyncpg.Connection,
    account_id: int,
    job_id: int,
    *,
    lane: int,
    token: int,
    worker: str,
) -> LaneHold | None:
    """Come to work on a lane; None when the lane has another token by now."""
    row = await _sql.hold_lane(
        connection, account_id=account_id, job_id=job_id, lane=lane, token=token, worker=worker
    )
    return LaneHold(*row) if row else None


async def holds_lane(
    connection: asyncpg.Connection, account_id: int, job_id: int, *, lane: int, token: int
) -> bool:
    """Whether the lane still has that token."""
    return bool(
        await _sql.holds_lane(
            connection, account_id=account_id, job_id=job_id, lane=lane, token=token
        )
    )


async def touch_lane(
    connection: asyncpg.Connection, account_id: int, job_id: int, *, lane: int, token: int
) -> None:
    """Show that the lane's worker lives."""
    await _sql.touch_lane(connection, account_id=account_id, job_id=job_id, lane=lane, token=token)


async def release_lane(
    connection: asyncpg.Connection,
    account_id: int,
    job_id: int,
    *,
    lane: int,
    token: int,
    state: Literal["queued", "idle"],
) -> int | None:
    """Leave a lane; its next token, or None when someone else has it by now."""
    next_token: int | None = await _sql.release_lane(
        connection, account_id=account_id, job_id=job_id, lane=lane, token=token, state=state
    )
    return next_token


async def recover_lane(
    connection: asyncpg.Connection,
    account_id: int,
    job_id: int,
    *,
    lane: int,
    token: int,
    state: Literal["queued", "idle"],
) -> int | None:
    """Leave a lane after its work broke off; its next token, or None as above."""
    next_token: int | None = await _sql.recover_lane(
        connection, account_id=account_id, job_id=job_id, lane=lane, token=token, state=state
    )
    return next_token


async def requeue_stalled_lanes(
    connection: asyncpg.Connection,
    account_id: int,
    job_id: int,
    *,
    limit: int,
    stalled_after_seconds: float,
) -> list[StalledLane]:
    """Return the lanes of the job to enqueue again, at most `limit`.

    A chunk that was lost with its worker is worked with care from now on.
    """
    rows = _sql.requeue_stalled_lanes(
        connection,
        account_id=account_id,
        job_id=job_id,
        limit=limit,
        stalled_after_seconds=stalled_after_seconds,
    )
    return [StalledLane(*row) async for row in rows]
