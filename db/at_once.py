"""Jobs of one chunk that are stored, worked and ended in a single transaction.

Nobody else sees such a job before it is done: it is not planned, claimed or rung for.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from db.chunks import ChunkCounts, ClaimedChunk
from db.progress import JobTotals, JobToWork
from db.queries import load
from db.result_rows import Ending, Pair, columns
from db.time_limits import IDLE_MS
from schemas.errors import NotLocked

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
    job: JobToWork,
    chunk: ClaimedChunk,
    decided_at: datetime,
    rows: Mapping[Ending, Sequence[Pair]],
    changes: Mapping[int, tuple[Any, Any, int | None]],
    versions: Mapping[int, int],
    counts: ChunkCounts,
    worker: str,
    duration_ms: int,
) -> JobTotals:
    """Write what was decided, note the job's only chunk as done, and end the job with its counts.

    `changes` and `versions` are those of `db.chunks.change_addresses`. Raises NotLocked when an
    address is not of its version any more, and asyncpg.CheckViolationError when the counts do not
    add up; the transaction is to be rolled back.
    """
    ids = sorted(changes)
    row = await _sql.complete(
        connection,
        account_id=job.account_id,
        job_id=job.id,
        chunk_no=chunk.chunk_no,
        rows=chunk.contact_ids,
        decided_at=decided_at,
        changed_ids=ids,
        changed_from=[changes[id_][0] for id_ in ids],
        changed_to=[changes[id_][1] for id_ in ids],
        changed_by=[changes[id_][2] for id_ in ids],
        versions=[versions[id_] for id_ in ids],
        worker=worker,
        duration_ms=duration_ms,
        applied=counts.applied,
        unchanged=counts.unchanged,
        rejected=counts.rejected,
        empty=counts.empty,
        propagated=counts.propagated,
        by_reason=counts.reasons,
        **columns(rows),
    )
    changed, *totals = row
    if changed != len(ids):
        raise NotLocked("an address was changed by someone else since it was read")
    return JobTotals(*totals)
