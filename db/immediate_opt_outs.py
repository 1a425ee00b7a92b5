"""Store an immediate opt-out: one statement inserts the completed job with its results.

No other process sees the job before it is completed: it is not planned, claimed or enqueued.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.address_lists import NewAddresses
from db.chunks import ChunkCounts, ClaimedChunk
from db.errors import detect_concurrent_insert
from db.jobs import NewJob
from db.queries import load
from db.result_rows import Contacts, ResultRows, result_objects
from db.time_limits import IDLE_MS
from schemas.chunk_rows import Change
from schemas.errors import StaleRead

_sql = load("immediate_opt_outs")


class ImmediateJob(NamedTuple):
    """A job that was stored as completed; `seconds` have passed since its request was received."""

    job_id: int
    seconds: float


async def set_idle_timeout(connection: asyncpg.Connection) -> None:
    """Let Postgres end this transaction if it is idle for longer than `IDLE_MS` milliseconds."""
    await _sql.set_idle_timeout(connection, idle_ms=str(IDLE_MS))


async def insert_completed_job(
    connection: asyncpg.Connection,
    job: NewJob,
    *,
    chunk: ClaimedChunk,
    received_at: datetime,
    decided_at: datetime,
    rows: ResultRows,
    contacts: Contacts,
    new: NewAddresses | None,
    new_status: str,
    changes: Mapping[int, Change],
    versions: Mapping[int, int],
    counts: ChunkCounts,
    worker: str,
    duration_ms: int,
) -> ImmediateJob | None:
    """Store the job with its only chunk, its results and its changes.

    `changes` and `versions` are those of `update_addresses`. `new` are the addresses to create with
    `new_status`. Return None if the idempotency key is in use. Raises StaleRead if an address no
    longer has its version, ConcurrentLink if another transaction created a new address, and
    asyncpg.CheckViolationError if the counts do not add up. Nothing is written then.
    """
    ids = sorted(changes)
    try:
        with detect_concurrent_insert():
            row = await _sql.insert_completed_job(
                connection,
                **job.columns(),
                **counts._asdict(),
                selected=len(chunk.item_ids) * len(job.fields),
                chunk_no=chunk.chunk_no,
                items=chunk.item_ids,
                received_at=received_at,
                decided_at=decided_at,
                **(new or NewAddresses([], [], []))._asdict(),
                new_status=new_status,
                changed_ids=ids,
                changed_from=[changes[id_][0] for id_ in ids],
                changed_to=[changes[id_][1] for id_ in ids],
                propagated_from=[changes[id_][2] for id_ in ids],
                versions=[versions[id_] for id_ in ids],
                worker=worker,
                duration_ms=duration_ms,
                results=result_objects(rows, contacts),
            )
    except asyncpg.SerializationError as error:
        raise StaleRead("another transaction has changed an address since it was read") from error
    return None if row is None else ImmediateJob(*row[:2])
