"""A job as people and programs see it: what was asked, where it stands, what became of it."""

from dataclasses import asdict
from typing import Any

from actions.registry import describe_reason
from cli.forecast import store_forecast
from cli.rendering import format_count, print_facts, print_table, print_text
from db import job_progress, jobs
from producers.job_view import JobView, job_warning
from schemas.outcomes import FINAL_STATES, JobState
from schemas.requests import FIELD_NAMES
from schemas.staging import IMPORT_REJECTION_MEANINGS

_SHORT_SECONDS = 1
"""Shorter jobs show no rate: it would say nothing of longer ones."""

_OUTCOMES = ("applied", "unchanged", "rejected", "empty", "propagated")


def job_to_dict(job: jobs.Job) -> dict[str, Any]:
    """Return the job for programs, with the counts of its row."""
    return {
        **asdict(job),
        "fields": [FIELD_NAMES[number] for number in job.fields],
        "warning": job_warning(job, job.selected),
    }


def view_to_dict(story: JobView) -> dict[str, Any]:
    """Return the job for programs, with exact counts, reasons and chunks."""
    progress = story.progress
    return {
        **job_to_dict(story.job),
        "state": progress.state,
        "selected": progress.selected,
        "warning": job_warning(story.job, progress.selected),
        **{outcome: getattr(progress, outcome) for outcome in _OUTCOMES},
        "reasons": progress.reasons,
        "import_rejections": story.import_rejections,
        "recognized": story.recognized,
        "chunks": {
            "done": progress.chunks_done,
            "pending": progress.chunks_pending,
            "split": progress.chunks_split,
        },
        "attempts": progress.attempts,
        "last_error": progress.last_error,
    }


def show_view(story: JobView) -> None:
    """Print the job for people."""
    job, progress = story.job, story.progress
    print_facts(
        [
            ("job", f"{job.id} {job.action}"),
            ("state", progress.state.value),
            ("account", job.account),
            ("selection", _format_conditions(job.selection) or None),
            ("unknown addresses", job.unknown),
            ("fields", ", ".join(FIELD_NAMES[number] for number in job.fields)),
            ("parameters", _format_conditions(job.params) or None),
            ("evidence", _format_conditions(job.evidence) if job.evidence else None),
            ("asked for by", job.requested_by),
            ("actor", _format_actor(job.actor, job.via) if job.actor else None),
            ("key", job.idempotency_key),
            ("created", job.created_at),
            ("started", job.started_at),
            ("finished", job.finished_at),
            ("confirmed by", _confirmed_by(job)),
            ("error", job.error),
        ]
    )
    print_text("")
    show_counts(story)


def _confirmed_by(job: jobs.Job) -> str | None:
    if job.confirmation is None or job.confirmed_at is None:
        return None
    told, actor = job.confirmation["by"], job.confirmation.get("actor")
    return f"{told} ({_format_actor(actor, job.confirmation['via'])})" if actor else str(told)


def _format_actor(actor: str, via: str | None) -> str:
    return actor if via in {None, actor} else f"{actor}, via {via}"


def show_counts(story: JobView) -> None:
    """Print the counts of the selected pairs, by outcome and reason."""
    job, progress = story.job, story.progress
    if progress.planned_at is None:
        print_text("Its contacts are not selected yet. A worker does that first.")
        return
    if progress.state is JobState.PLANNED:
        store_forecast(job)
        return
    print_text(_headline(story))
    if progress.planned:
        print_table(("outcome", "count", "reason", "because"), _count_rows(progress))
    if progress.last_error:
        print_text(f"\nA part failed and is tried again: {progress.last_error}")
    if story.recognized:
        print_text(
            f"\n{format_count(story.recognized, 'row')} of the file recognized as contacts that the"
            " account had."
        )
    if story.import_rejections:
        print_text("\nRows and cells of the file that were left out:")
        print_table(("count", "reason", "because"), _import_rejection_rows(story.import_rejections))
        print_text(f"`sluice results {job.id} --outcome import_rejections` lists them.")


def _headline(story: JobView) -> str:
    progress, job = story.progress, story.job
    what = f"{progress.planned:,} selected pairs of contact and field"
    if warning := job_warning(job, progress.selected):
        return f"Job {job.id} is {progress.state.value}. {warning}"
    if progress.state is JobState.COMPLETED:
        return f"Job {job.id} is completed: all {what} are accounted for.{_format_rate(story)}"
    return f"Job {job.id} is {progress.state.value}: {progress.done:,} of {what} are done."


def _format_rate(story: JobView) -> str:
    job = story.job
    if job.started_at is None or job.finished_at is None:
        return ""
    seconds = (job.finished_at - job.started_at).total_seconds()
    if seconds < _SHORT_SECONDS:
        return f" It took less than {_SHORT_SECONDS} s."
    return f" It took {seconds:,.1f} s, {story.progress.done / seconds:,.0f} a second."


def _count_rows(progress: job_progress.JobCounts) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for outcome in _OUTCOMES:
        count = getattr(progress, outcome)
        if outcome == "propagated" and not count:
            continue
        rows.append((outcome, count, "", _OUTCOME_NOTES.get(outcome, "") if count else ""))
        prefix = f"{outcome}:"
        rows.extend(
            ("", count, reason := key.removeprefix(prefix), describe_reason(reason))
            for key, count in sorted(progress.reasons.items(), key=lambda item: -item[1])
            if key.startswith(prefix)
        )
    if progress.state in FINAL_STATES and progress.done < progress.planned:
        left = progress.planned - progress.done
        rows.append(("unprocessed", left, "", "the job ended before it came to these"))
    return rows


def _import_rejection_rows(import_rejections: dict[str, int]) -> list[tuple[object, ...]]:
    meanings = {reason.value: text for reason, text in IMPORT_REJECTION_MEANINGS.items()}
    return [
        (count, reason, meanings.get(reason) or describe_reason(reason))
        for reason, count in import_rejections.items()
    ]


_OUTCOME_NOTES = {
    "empty": "the contact has no address in that field",
    "propagated": "in addition: other addresses of the same people, which the opt-out reached",
}


def _format_conditions(given: dict[str, Any]) -> str:
    return ", ".join(_format_condition(name, value) for name, value in given.items())


def _format_condition(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name}: {' or '.join(map(str, value)) if isinstance(value, list) else value}"
