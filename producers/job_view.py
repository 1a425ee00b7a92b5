"""A job with all that is known of it, for every way to show it."""

from typing import NamedTuple

import asyncpg

from actions.registry import all_actions
from db import address_history, exports, job_progress, jobs, webhook_deliveries
from db.exports import Export
from schemas.errors import NotFound
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD


class JobView(NamedTuple):
    """A job with its exact counts; `import_rejections` counts what was left out of its file.

    `recognized` tells of an import how many of its rows were about contacts that were there, and
    is None for other jobs. `delivery` is how far its completion webhook is, if it has one.
    """

    job: jobs.Job
    progress: job_progress.JobCounts
    import_rejections: dict[str, int]
    recognized: int | None
    delivery: webhook_deliveries.Delivery | None


async def read_job(pool: asyncpg.Pool, job_id: int, *, account_id: int | None = None) -> JobView:
    """Read the job's current state, in any account unless one is given; raises NotFound."""
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=account_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
        of_job = (job.account_id, job.id)
        progress = await job_progress.get_counts(connection, *of_job)
        assert progress is not None
        refused, recognized = {}, None
        if creates_contacts(job.action) or lists_addresses(job):
            refused = await address_history.import_rejections_by_reason(connection, *of_job)
        if creates_contacts(job.action):
            recognized = await address_history.recognized_rows(connection, *of_job)
        delivery = await webhook_deliveries.get_delivery(connection, *of_job)
    return JobView(job, progress, refused, recognized, delivery)


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
        return exports.unprocessed_lines(job.account_id, job.id)
    if lists_addresses(job):
        return exports.unprocessed_addresses(job.account_id, job.id)
    return exports.Unprocessed(job.account_id, job.id)
