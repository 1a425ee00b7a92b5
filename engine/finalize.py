"""How a job ends, completed or failed.

The transaction that ends an import first finishes what no chunk could (`engine/sources`).
"""

import asyncpg

from db import chunks, job_progress
from db.job_progress import JobTotals, JobToWork
from engine.sources import source_of
from schemas.outcomes import JobState


async def complete_job(
    connection: asyncpg.Connection, job: JobToWork, *, role_address_limit: int
) -> JobTotals | None:
    """Complete a running job that has no chunk left; None if there is more to do.

    Raises asyncpg.CheckViolationError if its counts do not add up.
    """
    async with connection.transaction():
        if await job_progress.has_pending_chunks(connection, job.key):
            return None
        source = source_of(job)
        if source.is_finalized:
            await chunks.lock_job_exclusive(connection, job.id)
            if await job_progress.has_pending_chunks(connection, job.key):
                return None
        await source.finalize(connection, job, role_address_limit)
        return await job_progress.complete_job(connection, job.key)


async def fail_job(
    connection: asyncpg.Connection, job: JobToWork, error: str, *, role_address_limit: int
) -> bool:
    """End a job that cannot be done. Keep what was done; return False if it had ended before."""
    async with connection.transaction():
        await chunks.lock_job_exclusive(connection, job.id)
        now = await job_progress.get_job_to_work(connection, job.key)
        if now is None or now.state not in {JobState.PLANNING, JobState.RUNNING}:
            return False
        await source_of(job).finalize(connection, job, role_address_limit)
        return await job_progress.fail_job(connection, job.key, error)
