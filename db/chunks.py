"""A chunk's row: claim it, count its attempts, finish, postpone or split it."""

from typing import NamedTuple

import asyncpg

from db.lanes import LaneToken
from db.queries import load
from db.time_limits import IDLE_MS, LOCK_MS, STATEMENT_MS, TRANSACTION_MS
from schemas.job_key import JobKey

_sql = load("chunks")


class ClaimedChunk(NamedTuple):
    """A chunk whose row this transaction has locked; `attempts` were made before.

    `suspect_attempts` is None for a chunk that is not a suspect. For a suspect it is the number of
    attempts since then that lost their worker. The present attempt is added before it begins.
    """

    chunk_no: int
    item_ids: list[int]
    attempts: int
    suspect_attempts: int | None = None

    @property
    def is_suspected(self) -> bool:
        """Whether a worker that held the chunk was lost."""
        return self.suspect_attempts is not None


class ChunkCounts(NamedTuple):
    """The pairs of a chunk by outcome; `reasons` counts them by `outcome:reason`."""

    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    reasons: dict[str, int]


class ChunkResult(NamedTuple):
    """A chunk that is done, with its attempts so far and the time of the last one."""

    chunk_no: int
    counts: ChunkCounts
    attempts: int
    duration_ms: int


NO_LANE = -1
"""The number that stands for no lane."""


async def lock_job_shared(
    connection: asyncpg.Connection, job_id: int, *, lane: int = NO_LANE
) -> None:
    """Lock the job and the lane, and set the limits of `db.time_limits` for this transaction.

    Pause and cancel wait for the job's lock, so their answer is exact. The lane's lock shows the
    sweeper that its worker is not lost.
    """
    await _sql.lock_job_shared(
        connection,
        job_id=job_id,
        lane=lane,
        idle_ms=str(IDLE_MS),
        lock_ms=str(LOCK_MS),
        statement_ms=str(STATEMENT_MS),
        transaction_ms=str(TRANSACTION_MS),
    )


async def lock_job_exclusive(connection: asyncpg.Connection, job_id: int) -> None:
    """Wait until no chunk of the job is in work; none starts until the transaction ends."""
    await _sql.lock_job_exclusive(connection, job_id=job_id)


async def claim_next(
    connection: asyncpg.Connection, job: JobKey, *, share: float, lane: int = NO_LANE
) -> ClaimedChunk | None:
    """Lock the next pending chunk of a running job until the transaction ends.

    The search starts at `share` (0 to 1) of the job's chunks, then wraps to the beginning. Return
    None if no chunk is free.
    """
    row = await _sql.claim_next_chunk(connection, **job._asdict(), share=share, lane=lane)
    return ClaimedChunk(*row) if row else None


async def claim_by_number(
    connection: asyncpg.Connection, job: JobKey, chunk_no: int
) -> ClaimedChunk | None:
    """Lock this chunk until the transaction ends; return None unless it is free and runnable."""
    row = await _sql.claim_chunk_by_number(connection, **job._asdict(), chunk_no=chunk_no)
    return ClaimedChunk(*row) if row else None


async def count_attempt(
    connection: asyncpg.Connection, lane: LaneToken, chunk: ClaimedChunk
) -> bool:
    """Count an attempt at the chunk before it is made, and record the chunk in the lane.

    Return False if another worker has the chunk or the lane by now.
    """
    chunk_no, suspect_attempts = chunk.chunk_no, chunk.suspect_attempts
    counted = await _sql.count_attempt(
        connection, **lane._asdict(), chunk_no=chunk_no, suspect_attempts=suspect_attempts
    )
    return counted is not None


async def uncount_attempt(connection: asyncpg.Connection, job: JobKey, chunk_no: int) -> None:
    """Take back an attempt that was counted before it was made and says nothing about the chunk."""
    await _sql.uncount_attempt(connection, **job._asdict(), chunk_no=chunk_no)


async def record_current_chunk(
    connection: asyncpg.Connection, lane: LaneToken, chunk_no: int | None
) -> None:
    """Record the chunk that the lane's worker works on, or None, without waiting for the disk."""
    await _sql.record_current_chunk(connection, **lane._asdict(), chunk_no=chunk_no)


async def terminate_overlong_chunks(connection: asyncpg.Connection) -> int:
    """End the connections whose transaction on a chunk is too long, and return their number.

    Raises asyncpg.InsufficientPrivilegeError if one belongs to another role.
    """
    seconds = (TRANSACTION_MS + LOCK_MS) / 1000
    return len([row async for row in _sql.terminate_overlong_chunks(connection, seconds=seconds)])


async def finish_chunk(
    connection: asyncpg.Connection,
    job: JobKey,
    done: ChunkResult,
    *,
    worker: str,
    error: str | None = None,
) -> None:
    """Mark the chunk done; raises asyncpg.CheckViolationError if its counts do not add up."""
    columns = done._asdict() | done.counts._asdict()
    await _sql.finish_chunk(connection, **job._asdict(), **columns, worker=worker, error=error)


async def insert_done_chunk(
    connection: asyncpg.Connection, job: JobKey, chunk_no: int, *, propagated: int
) -> None:
    """Insert a done chunk that counts what was propagated outside the planned chunks."""
    await _sql.insert_done_chunk(
        connection, **job._asdict(), chunk_no=chunk_no, propagated=propagated
    )


async def lock_failed_chunk(
    connection: asyncpg.Connection, job: JobKey, chunk_no: int
) -> ClaimedChunk | None:
    """Lock a chunk that failed; return None if another worker has it, or the job does not run."""
    row = await _sql.lock_failed_chunk(connection, **job._asdict(), chunk_no=chunk_no)
    return ClaimedChunk(chunk_no, *row) if row else None


async def postpone_chunk(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    chunk_no: int,
    attempts: int,
    error: str,
    delay_seconds: float,
    counted: bool,
) -> None:
    """Store the failed attempt, and let the next one come after `delay_seconds`.

    `counted` tells whether this one was counted before it was made.
    """
    await _sql.postpone_chunk(
        connection,
        **job._asdict(),
        chunk_no=chunk_no,
        attempts=attempts,
        error=error,
        delay_seconds=delay_seconds,
        counted=counted,
    )


async def split_chunk(
    connection: asyncpg.Connection, job: JobKey, *, chunk_no: int, attempts: int, error: str
) -> None:
    """Replace the chunk by its halves, without attempts, and suspect chunks if it was one."""
    # The halves get the next numbers. Two splits at the same time must not use the same ones.
    await _sql.lock_chunk_numbers(connection, job_id=job.job_id)
    await _sql.split_chunk(
        connection, **job._asdict(), chunk_no=chunk_no, attempts=attempts, error=error
    )
