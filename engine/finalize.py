"""The end of an import: what is known only when all its rows have arrived, or never will.

All rows of the file decide whether an address is a role address, so the order of chunks does not
matter. If rows did not become contacts, because the import was cancelled or a row failed, an
address may not be a role address after all. Then its opt-out is propagated to the siblings that
arrived with it.
"""

import asyncpg

from actions.registry import all_actions
from actions.rules.chunk import ChunkFacts
from actions.rules.propagation import propagate_after_import
from db import chunk_addresses, chunks, import_chunks, job_progress, results
from db.job_progress import JobTotals, JobToWork
from db.jobs import Job
from engine.chunk_reader import addresses_by_id, versions_by_id
from schemas.chunk_rows import Link
from schemas.outcomes import JobState
from schemas.statuses import OWN_RIGHT

FINALIZE_CHUNK_NO = 0
"""The number of the chunk that stands for this; those of the plan begin at 1."""


async def complete_job(
    connection: asyncpg.Connection, job: JobToWork, *, shared_address_limit: int
) -> JobTotals | None:
    """Complete a running job that has no chunk left; None if there is more to do.

    Raises asyncpg.CheckViolationError if its counts do not add up.
    """
    async with connection.transaction():
        if await job_progress.has_pending_chunks(connection, job.key):
            return None
        if _brings_contacts(job):
            # Settling changes addresses, and a pause may have answered meanwhile.
            await chunks.lock_job_exclusive(connection, job.id)
            if await job_progress.has_pending_chunks(connection, job.key):
                return None
        await finalize_import(connection, job, shared_address_limit=shared_address_limit)
        return await job_progress.complete_job(connection, job.key)


def _brings_contacts(job: JobToWork | Job) -> bool:
    action = all_actions().get(job.action)
    return action is not None and action.creates_contacts


async def fail_job(
    connection: asyncpg.Connection, job: JobToWork, error: str, *, shared_address_limit: int
) -> bool:
    """End a job that cannot be done, with what was done of it; whether it had not ended before."""
    async with connection.transaction():
        await chunks.lock_job_exclusive(connection, job.id)
        now = await job_progress.get_job_to_work(connection, job.key)
        if now is None or now.state not in {JobState.PLANNING, JobState.RUNNING}:
            return False
        await finalize_import(connection, job, shared_address_limit=shared_address_limit)
        return await job_progress.fail_job(connection, job.key, error)


async def finalize_import(
    connection: asyncpg.Connection, job: JobToWork | Job, *, shared_address_limit: int
) -> None:
    """Count the role addresses that an import brought, and let no opt-out have missed anyone.

    Part of the transaction that ends the job and keeps its chunks out. Nothing for other actions.
    """
    if not _brings_contacts(job):
        return
    await import_chunks.count_contacts_of_role_addresses(
        connection, job.key, shared_address_limit=shared_address_limit
    )
    await _propagate_missed_opt_outs(connection, job, shared_address_limit)


async def _propagate_missed_opt_outs(
    connection: asyncpg.Connection, job: JobToWork | Job, shared_address_limit: int
) -> None:
    """Propagate the opt-outs of addresses that are not role addresses after all."""
    beside = await import_chunks.find_missed_propagation(
        connection, job.key, own_right_statuses=OWN_RIGHT, shared_address_limit=shared_address_limit
    )
    if not beside:
        return
    links: dict[Link, None] = {}
    contacts_of: dict[int, list[int]] = {}
    for contact_id, field, address_id, source_id in beside:
        links[contact_id, field, address_id] = None
        if address_id == source_id:
            contacts_of.setdefault(source_id, []).append(contact_id)
    locked = await chunk_addresses.lock_addresses(
        connection, job.account_id, sorted({link[2] for link in links})
    )
    action = all_actions()[job.action]
    decided = propagate_after_import(
        action,
        action.params.model_validate(job.params),
        ChunkFacts(
            job_id=job.id,
            fields=frozenset(),
            shared_address_limit=shared_address_limit,
            links=list(links),
            addresses=addresses_by_id(locked),
        ),
        contacts_of,
    )
    await chunk_addresses.update_addresses(
        connection,
        job.key,
        decided_at=locked.decided_at,
        changes=decided.changes,
        versions=versions_by_id(locked),
    )
    await results.insert_results(
        connection,
        job.key,
        chunk_no=FINALIZE_CHUNK_NO,
        decided_at=locked.decided_at,
        rows=decided.rows,
        contacts={},
    )
    propagated = sum(map(len, decided.rows.values()))
    await chunks.insert_done_chunk(connection, job.key, FINALIZE_CHUNK_NO, propagated=propagated)
