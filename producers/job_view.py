"""A job with all that is known of it, for whoever shows it."""

from typing import NamedTuple

import asyncpg

from actions.registry import all_actions
from db import address_history, exports, jobs, webhook_deliveries
from db.exports import Listing
from schemas.errors import NotFound
from schemas.requests import FIELD_NAMES, THE_ADDRESS


class JobStory(NamedTuple):
    """A job with its exact counts; `refusals` counts what was left out of the file it came with.

    `recognised` tells of an import how many of its rows were about contacts that were there, and
    is None for other jobs. `notice` is how far its completion notice is, if it has one.
    """

    job: jobs.Job
    progress: jobs.Progress
    refusals: dict[str, int]
    recognised: int | None
    notice: webhook_deliveries.Notice | None


async def read_job(pool: asyncpg.Pool, job_id: int, *, account_id: int | None = None) -> JobStory:
    """The job as it stands, in any account unless one is given; raises NotFound."""
    async with pool.acquire() as connection:
        job = await jobs.get_job(connection, job_id, account_id=account_id)
        progress = await jobs.progress(connection, job_id) if job else None
        if job is None or progress is None:
            raise NotFound(f"There is no job {job_id}. `sluice jobs` lists the jobs there are.")
        refused, recognised = {}, None
        if brings_contacts(job.action) or lists_addresses(job):
            refused = await address_history.refusals_by_reason(connection, job_id)
        if brings_contacts(job.action):
            recognised = await address_history.recognised_rows(connection, job_id)
        notice = await webhook_deliveries.notice_of(connection, job_id)
    return JobStory(job, progress, refused, recognised, notice)


def warning_of(job: jobs.Job, selected: int | None) -> str | None:
    """What to tell of a job that selects nobody; None of one that does, or is not planned yet."""
    if selected is None or selected > 0:
        return None
    if brings_contacts(job.action):
        return "The job has nothing to do: no row of the file became a contact."
    told = "The job selects nobody: no contact meets all conditions of its selection."
    if "statuses" in job.selection:
        fields = ", ".join(FIELD_NAMES[number] for number in job.fields)
        told += f" Its statuses are looked for in its fields only: {fields}."
    return told


def brings_contacts(action: str) -> bool:
    """Whether jobs of the action are imports."""
    known = all_actions().get(action)
    return known is not None and known.brings_contacts


def lists_addresses(job: jobs.Job) -> bool:
    """Whether the job is over addresses themselves, and not over fields of contacts."""
    return job.fields == (THE_ADDRESS,)


def unprocessed(job: jobs.Job) -> Listing:
    """What the job did not come to: contacts, or what it was given in place of them.

    The ids that were drawn for the rows of a file, or for addresses, are of no contacts.
    """
    if brings_contacts(job.action):
        return exports.unprocessed_lines(job.id)
    if lists_addresses(job):
        return exports.unprocessed_addresses(job.id)
    return exports.Unprocessed(job.id)
