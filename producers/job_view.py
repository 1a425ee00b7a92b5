"""A job with all that is known of it, for every way to show it."""

from typing import NamedTuple

import asyncpg

from actions.registry import all_actions
from db import address_history, exports, jobs, webhook_deliveries
from db.exports import Export
from schemas.errors import NotFound
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD


class JobView(NamedTuple):
    """A job with its exact counts; `import_rejections` counts what was left out of its file.

    `recognized` is the number of an import's rows that were about existing contacts, and None for
    other jobs. `notice` is the state of its completion webhook, if it has one.
    """

    job: jobs.Job
    progress: jobs.JobCounts
    import_rejections: dict[str, int]
    recognized: int | None
    notice: webhook_deliveries.DeliveryState | None


async def read_job(pool: asyncpg.Pool, job_id: int, *, account_id: int | None = None) -> JobView:
    """Read the job's current state, in any account unless one is given; raises NotFound."""
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=account_id)
        progress = await jobs.get_counts(connection, job_id) if job else None
        if job is None or progress is None:
            raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
        refused, recognized = {}, None
        if creates_contacts(job.action) or lists_addresses(job):
            refused = await address_history.import_rejections_by_reason(connection, job_id)
        if creates_contacts(job.action):
            recognized = await address_history.count_recognized_rows(connection, job_id)
        notice = await webhook_deliveries.get_delivery(connection, job_id)
    return JobView(job, progress, refused, recognized, notice)


def job_warning(job: jobs.Job, selected: int | None) -> str | None:
    """Return a warning if the job selects nothing; None if it does, or is not planned yet."""
    if selected is None or selected > 0:
        return None
    if creates_contacts(job.action):
        return "The job has nothing to do: no row of the file became a contact."
    told = "The job selects nobody: no contact meets all conditions of its selection."
    if "statuses" in job.selection:
        fields = ", ".join(FIELD_NAMES[number] for number in job.fields)
        told += f" Its statuses are looked for in its fields only: {fields}."
    return told


def creates_contacts(action: str) -> bool:
    """Return whether jobs of the action are imports."""
    known = all_actions().get(action)
    return known is not None and known.creates_contacts


def lists_addresses(job: jobs.Job) -> bool:
    """Return whether the job is over addresses themselves, and not over fields of contacts."""
    return job.fields == (LISTED_ADDRESS_FIELD,)


def unprocessed_listing(job: jobs.Job) -> Export:
    """List what the job has not processed: contacts, or the rows and addresses it was given.

    The ids drawn for rows of a file or for addresses belong to no contacts.
    """
    if creates_contacts(job.action):
        return exports.unprocessed_lines(job.id)
    if lists_addresses(job):
        return exports.unprocessed_addresses(job.id)
    return exports.Unprocessed(job.id)
