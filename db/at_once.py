"""Jobs of one chunk that are stored, worked and ended in a single transaction.

Nobody else sees such a job before it is done: it is not planned, claimed or rung for.
"""

from collections.abc import Sequence
from typing import Any

import asyncpg

from db.chunks import ChunkCounts
from db.progress import JobTotals, JobToWork
from db.queries import load
from db.time_limits import IDLE_MS

_sql = load("at_once")


async def store_running(
    connection: asyncpg.Connection,
    *,
    account: str,
    action: str,
    fields: Sequence[int],
    params: dict[str, Any],
    selection: dict[str, Any],
    selected: int,
    requested_by: str,
    idempotency_key: str | None,
    request_hash: str,
    correlation_id: str,
) -> JobToWork | None:
    """Store a job as one that runs, with so many pairs selected, to be worked right now.

    None when there is no such account, or it has a job with this idempotency key.
    """
    row = await _sql.store_running(
        connection,
        account=account,
        action=action,
        fields=list(fields),
        params=params,
        selection=selection,
        selected=selected,
        requested_by=requested_by,
        idempotency_key=idempotency_key,
        request_hash=request_hash,
        correlation_id=correlation_id,
        idle_ms=str(IDLE_MS),
    )
    if row is None:
        return None
    job_id, account_id, now, _ = row
    return JobToWork(
        job_id, account_id, action, "running", list(fields), params, correlation_id, now, now
    )


async def complete(
    connection: asyncpg.Connection,
    *,
    job_id: int,
    chunk_no: int,
    contact_ids: Sequence[int],
    counts: ChunkCounts,
    worker: str,
    duration_ms: int,
) -> JobTotals:
    """Note the job's only chunk as done, and end the job with its counts.

    Raises asyncpg.CheckViolationError when they do not add up.
    """
    row = await _sql.complete(
        connection,
        job_id=job_id,
        chunk_no=chunk_no,
        contact_ids=contact_ids,
        worker=worker,
        duration_ms=duration_ms,
        **counts._asdict(),
    )
    return JobTotals(*row)
