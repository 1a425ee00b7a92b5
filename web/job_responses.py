"""Jobs as callers see them."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from db import job_progress, jobs
from producers.job_view import JobView, job_warning
from schemas.actors import Via
from schemas.outcomes import JobState
from schemas.requests import FIELD_NAMES

ActorField = Annotated[
    str | None,
    Field(
        description="Who the caller was: `key` or `hook` with its id, `link`, `cli` or `python`."
        " Null where an older version stored the job.",
        examples=["key:7"],
    ),
]
ViaField = Annotated[
    str | None,
    Field(description="By which way in.", examples=[Via.HTTP.value]),
]

_COUNT_NAMES = ("applied", "unchanged", "rejected", "empty", "propagated")


class OutcomeCounts(BaseModel):
    """Pairs of a contact and a field by what became of them: each is one of the first four."""

    applied: Annotated[int, Field(description="Their status was changed.")]
    unchanged: Annotated[int, Field(description="Nothing needed to change.")]
    rejected: Annotated[int, Field(description="The change was refused, with a reason.")]
    empty: Annotated[int, Field(description="The contact has no address in that field.")]
    propagated: Annotated[
        int,
        Field(description="Besides: other addresses of the same people that an opt-out reached."),
    ]


class JobSummary(BaseModel):
    """A job in a list."""

    id: int
    action: str
    state: Annotated[JobState, Field(description="Where the job stands.")]
    fields: Annotated[list[str], Field(description="Which fields of the contacts it takes.")]
    params: dict[str, Any]
    selection: Annotated[
        dict[str, Any],
        Field(description="The conditions that were given; of listed contacts, how many."),
    ]
    unknown: Annotated[
        int | None,
        Field(
            description="How many of the listed addresses the account did not know when the job was"
            " submitted; null for a job that lists none."
        ),
    ]
    evidence: Annotated[
        dict[str, Any] | None, Field(description="The evidence of permission, as it was given.")
    ]
    requested_by: Annotated[
        str, Field(description="Who asked for it, as the caller said; the key's name otherwise.")
    ]
    actor: ActorField
    via: ViaField
    idempotency_key: str | None
    correlation_id: str
    selected: Annotated[
        int | None, Field(description="How many pairs it has; null until they are selected.")
    ]
    warning: Annotated[
        str | None,
        Field(description="That the job selects nobody, where `selected` is 0; null otherwise."),
    ]
    counts: Annotated[
        OutcomeCounts,
        Field(description="In a list they lag behind a running job by about a second."),
    ]
    error: Annotated[str | None, Field(description="Why the job failed, if it did.")]
    forecast: Annotated[
        dict[str, Any] | None, Field(description="What a planned job would do, as it was counted.")
    ]
    confirmation: Annotated[
        dict[str, Any] | None, Field(description="What a person said yes to, who and when.")
    ]
    created_at: datetime
    planned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def from_row(cls, job: jobs.Job) -> Self:
        """Build the summary from the job's row alone, so that a page of jobs is one query."""
        return cls(**_row_fields(job))


class ChunkCounts(BaseModel):
    """The parts that a job is worked in, each in one transaction."""

    done: int
    pending: int
    split: Annotated[int, Field(description="Replaced by two halves after failing too often.")]


class WebhookDelivery(BaseModel):
    """How far the telling of the job's end is."""

    attempts: int
    delivered_at: datetime | None
    abandoned_at: Annotated[datetime | None, Field(description="Given up, after many attempts.")]
    error: Annotated[str | None, Field(description="Why the last attempt failed.")]


class JobResponse(JobSummary):
    """A job with its exact counts at this moment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "action": "opt_in",
                    "state": "running",
                    "fields": ["email1"],
                    "params": {},
                    "selection": {"tag": "spring"},
                    "unknown": None,
                    "evidence": {
                        "source": "customer_relationship",
                        "description": "They agreed at the till when they became customers.",
                        "collected_from": "2024-01-01",
                        "collected_until": "2024-12-31",
                        "attested_by": "the shop's manager",
                    },
                    "requested_by": "the shop's backend",
                    "actor": "key:1",
                    "via": "http",
                    "idempotency_key": "spring-1",
                    "correlation_id": "f6b0f0c1",
                    "selected": 10_000,
                    "warning": None,
                    "counts": {
                        "applied": 4_700,
                        "unchanged": 100,
                        "rejected": 150,
                        "empty": 50,
                        "propagated": 0,
                    },
                    "error": None,
                    "forecast": None,
                    "confirmation": None,
                    "created_at": "2025-03-01T08:00:00Z",
                    "planned_at": "2025-03-01T08:00:00.2Z",
                    "started_at": "2025-03-01T08:00:00.3Z",
                    "finished_at": None,
                    "reasons": {
                        "unchanged": {"already_marketable": 100},
                        "rejected": {"opted_out_by_recipient": 150},
                    },
                    "import_rejections": {},
                    "recognized": None,
                    "percent": 50.0,
                    "rate": 20_000.0,
                    "seconds_left": 0.3,
                    "chunks": {"done": 2, "pending": 2, "split": 0},
                    "attempts": 2,
                    "last_error": None,
                    "completion_webhook": None,
                }
            ]
        }
    )

    reasons: Annotated[
        dict[str, dict[str, int]],
        Field(description="Why pairs were left as they were: by outcome and reason, how many."),
    ]
    import_rejections: Annotated[
        dict[str, int],
        Field(description="What was left out of the file that the job came with, by reason."),
    ]
    recognized: Annotated[
        int | None,
        Field(
            description="Of an import, how many rows of its file were about contacts that the"
            " account had; null for other jobs."
        ),
    ]
    percent: Annotated[
        float | None,
        Field(description="How much of it is done; null until its pairs are selected."),
    ]
    rate: Annotated[
        float | None,
        Field(
            description="Pairs a second: in the last"
            f" {job_progress.RECENT_SECONDS:.0f} s, or of a job that has ended from its start to"
            " its end. Null before its start."
        ),
    ]
    seconds_left: Annotated[
        float | None, Field(description="At this rate; null where that is unknown.")
    ]
    chunks: ChunkCounts
    attempts: Annotated[int, Field(description="How often its chunks were tried altogether.")]
    last_error: Annotated[
        str | None, Field(description="Of a chunk that failed and will be tried again.")
    ]
    completion_webhook: Annotated[
        WebhookDelivery | None, Field(description="Null where the job has no `completion_url`.")
    ]

    @classmethod
    def from_view(cls, story: JobView) -> Self:
        """Build the response from the job with its exact counts."""
        job, progress = story.job, story.progress
        rate = _compute_rate(story)
        running = progress.state is JobState.RUNNING
        return cls(
            **_row_fields(job)
            | {
                "state": progress.state,
                "selected": progress.selected,
                "warning": job_warning(job, progress.selected),
                "counts": OutcomeCounts(**{name: getattr(progress, name) for name in _COUNT_NAMES}),
            },
            reasons=_group_by_outcome(progress.reasons),
            import_rejections=story.import_rejections,
            recognized=story.recognized,
            percent=compute_percent(progress),
            rate=None if rate is None else round(rate, 1),
            seconds_left=(
                round((progress.planned - progress.done) / rate, 1) if running and rate else None
            ),
            chunks=ChunkCounts(
                done=progress.chunks_done,
                pending=progress.chunks_pending,
                split=progress.chunks_split,
            ),
            attempts=progress.attempts,
            last_error=progress.last_error,
            completion_webhook=story.delivery and WebhookDelivery(**story.delivery._asdict()),
        )


class JobPage(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobSummary]
    next: Annotated[
        str | None,
        Field(
            description="The cursor of the next page, null after the last. Where jobs of a state or"
            f" action are asked for, {jobs.MAX_SCANNED_JOBS:,} jobs are looked through for a"
            " page: it"
            " may be empty and not be the last."
        ),
    ]


def compute_percent(progress: job_progress.JobCounts | job_progress.JobProgress) -> float | None:
    """How much of a job is done, to a tenth; None until its pairs are selected."""
    if progress.planned_at is None:
        return None
    return round(100 * progress.done / progress.planned, 1) if progress.planned else 100.0


def _row_fields(job: jobs.Job) -> dict[str, Any]:
    named = JobSummary.model_fields.keys() - {"fields", "warning", "counts"}
    return {
        **{name: getattr(job, name) for name in named},
        "fields": [FIELD_NAMES[number] for number in job.fields],
        "warning": job_warning(job, job.selected),
        "counts": OutcomeCounts(**{name: getattr(job, name) for name in _COUNT_NAMES}),
    }


def _group_by_outcome(reasons: dict[str, int]) -> dict[str, dict[str, int]]:
    by_outcome: dict[str, dict[str, int]] = {}
    for name, count in reasons.items():
        outcome, _, reason = name.partition(":")
        by_outcome.setdefault(outcome, {})[reason] = count
    return by_outcome


def _compute_rate(story: JobView) -> float | None:
    job, progress = story.job, story.progress
    if job.started_at is None:
        return None
    if job.finished_at is not None:
        seconds = (job.finished_at - job.started_at).total_seconds()
        return progress.done / max(seconds, 0.001)
    seconds = min((progress.at - job.started_at).total_seconds(), job_progress.RECENT_SECONDS)
    return progress.done_recently / max(seconds, 0.001)
