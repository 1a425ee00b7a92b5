"""A job as people and programs see it: `--json` on the command line and HTTP give this JSON."""

from datetime import datetime
from typing import Annotated, Any, Self

import asyncpg
from pydantic import ConfigDict, Field

from actions.registry import all_actions
from db import address_history, exports, job_progress, jobs, webhook_deliveries
from db.exports import Export
from schemas.errors import NotFound
from schemas.examples import get_examples
from schemas.outcomes import JobState
from schemas.requests import FIELD_NAMES, LISTED_ADDRESS_FIELD
from schemas.views import ActorField, ViaField, View


class OutcomeCounts(View):
    """Pairs of an item and a field by their outcome, and the changes that were propagated."""

    applied: int
    """The status was changed."""
    unchanged: int
    """No change was needed."""
    rejected: int
    """The rules forbid the change; see `reasons`."""
    empty: int
    """The contact has no address in that field."""
    propagated: int
    """In addition: siblings that the opt-out was propagated to."""

    @property
    def done(self) -> int:
        """How many of the selected pairs have an outcome."""
        return self.applied + self.unchanged + self.rejected + self.empty


class JobSummary(View):
    """A job in a list."""

    id: int
    account: str
    """The account's name."""
    action: str
    state: JobState
    fields: list[str]
    """The fields of the contacts that it is for."""
    params: dict[str, Any]
    selection: dict[str, Any]
    """The conditions; instead of a list of items, how many it has."""
    unknown: int | None
    """Listed addresses that the account did not know at submission; null if none were listed."""
    evidence: dict[str, Any] | None
    """The evidence of permission, as submitted."""
    requested_by: str
    """Who asked for the job, as the client said; else the key's name."""
    actor: ActorField
    via: ViaField
    idempotency_key: str | None
    correlation_id: str
    selected: int | None
    """How many pairs the job has; null until it is planned."""
    warning: str | None
    """Why `selected` is 0; null if the job selects something."""
    counts: OutcomeCounts
    """In a list, those of a running job are up to about a second old."""
    error: str | None
    """Why the job failed."""
    forecast: dict[str, Any] | None
    """What the planned job would do."""
    confirmation: dict[str, Any] | None
    """The decision to apply the plan: the counts seen, by whom and when."""
    created_at: datetime
    planned_at: datetime | None
    confirmed_at: datetime | None
    """When the counts were found to agree with the confirmation."""
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def from_row(cls, job: jobs.Job) -> Self:
        """Build the summary from the job's row alone, so that a page of jobs is one query."""
        return cls(**_row_values(job))


class ChunkCounts(View):
    """The job's chunks by state. One transaction handles one chunk."""

    done: int
    pending: int
    split: int
    """Replaced by two halves after it failed three times."""


class WebhookDelivery(View):
    """The delivery of the job's completion webhook."""

    attempts: int
    delivered_at: datetime | None
    abandoned_at: datetime | None
    """When Sluice stopped trying, after many attempts."""
    error: str | None
    """Why the last attempt failed."""


class JobView(JobSummary):
    """A job with its exact counts at this moment."""

    model_config = ConfigDict(json_schema_extra=get_examples("JobView"))

    reasons: dict[str, dict[str, int]]
    """How many pairs are unchanged or rejected, by outcome and reason."""
    import_rejections: dict[str, int]
    """Rows and cells of the job's file that were left out, by reason."""
    recognized: int | None
    """Rows of an import about existing contacts; null for other jobs."""
    percent: float | None
    """How much of it is done; null until it is planned."""
    rate: Annotated[
        float | None,
        Field(
            description="Pairs a second, over the last"
            f" {job_progress.RECENT_SECONDS:.0f} s; of a finished job, over its whole time. Null"
            " before it starts."
        ),
    ]
    seconds_left: float | None
    """At this rate; null where it is unknown."""
    chunks: ChunkCounts
    attempts: int
    """Counted attempts at all of its chunks."""
    last_error: str | None
    """The error of a chunk that will be tried again."""
    completion_webhook: WebhookDelivery | None
    """Null if the job has no `completion_url`."""


async def read_job(pool: asyncpg.Pool, job_id: int, *, account_id: int | None = None) -> JobView:
    """Return the job with its exact counts; of any account unless `account_id` is given.

    Raises NotFound.
    """
    async with pool.acquire() as connection:
        job = await require_job(connection, job_id, account_id=account_id)
        counts = await job_progress.get_counts(connection, job.key)
        assert counts is not None
        import_rejections, recognized = {}, None
        if creates_contacts(job.action) or lists_addresses(job):
            import_rejections = await address_history.count_import_rejections(connection, job.key)
        if creates_contacts(job.action):
            recognized = await address_history.count_recognized_rows(connection, job.key)
        delivery = await webhook_deliveries.get_delivery(connection, job.key)
    rate = _compute_rate(job, counts)
    is_running = counts.state is JobState.RUNNING
    return JobView(
        **_row_values(job, counts),
        reasons=_group_by_outcome(counts.reasons),
        import_rejections=import_rejections,
        recognized=recognized,
        percent=compute_percent(counts),
        rate=None if rate is None else round(rate, 1),
        seconds_left=round((counts.planned - counts.done) / rate, 1)
        if is_running and rate
        else None,
        chunks=ChunkCounts(
            done=counts.chunks_done, pending=counts.chunks_pending, split=counts.chunks_split
        ),
        attempts=counts.attempts,
        last_error=counts.last_error,
        completion_webhook=delivery and WebhookDelivery.model_validate(delivery),
    )


async def require_job(
    connection: asyncpg.Connection, job_id: int, *, account_id: int | None = None
) -> jobs.Job:
    """Return the job, of any account unless `account_id` is given; raises NotFound."""
    job = await jobs.get_job(connection, job_id, account_id=account_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}. `sluice jobs` lists all jobs.")
    return job


def creates_contacts(action: str) -> bool:
    """Return whether jobs of the action are imports."""
    known = all_actions().get(action)
    return known is not None and known.creates_contacts


def lists_addresses(job: jobs.Job) -> bool:
    """Return whether the job is about listed addresses instead of fields of contacts."""
    return job.fields == (LISTED_ADDRESS_FIELD,)


def export_unprocessed(job: jobs.Job) -> Export:
    """Return the export of what the job has not handled: contacts, rows of a file or addresses.

    The ids drawn for rows or listed addresses are not ids of contacts.
    """
    if creates_contacts(job.action):
        return exports.export_unprocessed_rows(job.key)
    if lists_addresses(job):
        return exports.export_unprocessed_addresses(job.key)
    return exports.export_unprocessed_contacts(job.key)


def compute_percent(progress: job_progress.JobCounts | job_progress.JobProgress) -> float | None:
    """Return how much of a job is done, to a tenth; None until it is planned."""
    if progress.planned_at is None:
        return None
    return round(100 * progress.done / progress.planned, 1) if progress.planned else 100.0


_COMPUTED_FIELDS = {"fields", "warning", "counts"}


def _row_values(job: jobs.Job, counts: job_progress.JobCounts | None = None) -> dict[str, Any]:
    """Return the fields of a `JobSummary`; those that change during a job come from `counts`."""
    latest = counts or job
    fields = [FIELD_NAMES[number] for number in job.fields]
    return {
        **{name: getattr(job, name) for name in JobSummary.model_fields.keys() - _COMPUTED_FIELDS},
        "state": latest.state,
        "fields": fields,
        "selected": latest.selected,
        "warning": _warning(job, latest.selected, fields),
        "counts": OutcomeCounts.model_validate(latest),
    }


def _warning(job: jobs.Job, selected: int | None, fields: list[str]) -> str | None:
    if selected is None or selected > 0:
        return None
    if creates_contacts(job.action):
        return "The job has nothing to do: no row of the file became a contact."
    warning = "The job selects no contact: none meets all conditions of its selection."
    if "statuses" in job.selection:
        warning += (
            f" Only addresses in the job's fields ({', '.join(fields)}) count for `statuses`."
        )
    return warning


def _group_by_outcome(reasons: dict[str, int]) -> dict[str, dict[str, int]]:
    by_outcome: dict[str, dict[str, int]] = {}
    for name, count in reasons.items():
        outcome, _, reason = name.partition(":")
        by_outcome.setdefault(outcome, {})[reason] = count
    return by_outcome


def _compute_rate(job: jobs.Job, counts: job_progress.JobCounts) -> float | None:
    if job.started_at is None:
        return None
    if job.finished_at is not None:
        seconds = (job.finished_at - job.started_at).total_seconds()
        return counts.done / max(seconds, 0.001)
    seconds = min((counts.at - job.started_at).total_seconds(), job_progress.RECENT_SECONDS)
    return counts.done_recently / max(seconds, 0.001)
