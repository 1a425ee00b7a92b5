"""A job as people and programs see it: what was asked, where it stands, what became of it."""

from dataclasses import asdict
from typing import Any

from actions.registry import meaning_of_reason
from cli.forecast import show_forecast
from cli.rendering import counted, facts, say, table
from db import jobs
from producers.job_view import JobStory, warning_of
from schemas.outcomes import ENDED, JobState
from schemas.requests import FIELD_NAMES
from schemas.staging import REFUSAL_MEANINGS

_SHORT_SECONDS = 1
"""Shorter jobs show no rate: it would say nothing of longer ones."""

_OUTCOMES = ("applied", "unchanged", "rejected", "empty", "propagated")


def job_as_dict(job: jobs.Job) -> dict[str, Any]:
    """The job for programs, with the counts of its row."""
    return {
        **asdict(job),
        "fields": [FIELD_NAMES[number] for number in job.fields],
        "warning": warning_of(job, job.selected),
    }


def story_as_dict(story: JobStory) -> dict[str, Any]:
    """The job for programs, with exact counts, reasons and chunks."""
    progress = story.progress
    return {
        **job_as_dict(story.job),
        "state": progress.state,
        "selected": progress.selected,
        "warning": warning_of(story.job, progress.selected),
        **{outcome: getattr(progress, outcome) for outcome in _OUTCOMES},
        "reasons": progress.reasons,
        "refusals": story.refusals,
        "recognised": story.recognised,
        "chunks": {
            "done": progress.chunks_done,
            "pending": progress.chunks_pending,
            "split": progress.chunks_split,
        },
        "attempts": progress.attempts,
        "last_error": progress.last_error,
    }


def show_story(story: JobStory) -> None:
    """The job for people."""
    job, progress = story.job, story.progress
    facts(
        [
            ("job", f"{job.id} {job.action}"),
            ("state", progress.state.value),
            ("account", job.account),
            ("selection", _in_words(job.selection) or None),
            ("unknown addresses", job.unknown),
            ("fields", ", ".join(FIELD_NAMES[number] for number in job.fields)),
            ("parameters", _in_words(job.params) or None),
            ("evidence", _in_words(job.evidence) if job.evidence else None),
            ("asked for by", job.requested_by),
            ("actor", _actor(job.actor, job.via) if job.actor else None),
            ("key", job.idempotency_key),
            ("created", job.created_at),
            ("started", job.started_at),
            ("finished", job.finished_at),
            ("confirmed by", _confirmed_by(job)),
            ("error", job.error),
        ]
    )
    say("")
    show_counts(story)


def _confirmed_by(job: jobs.Job) -> str | None:
    if job.confirmation is None or job.confirmed_at is None:
        return None
    told, actor = job.confirmation["by"], job.confirmation.get("actor")
    return f"{told} ({_actor(actor, job.confirmation['via'])})" if actor else str(told)


def _actor(actor: str, via: str | None) -> str:
    return actor if via in {None, actor} else f"{actor}, via {via}"


def show_counts(story: JobStory) -> None:
    """What became of the selected pairs, by outcome and reason."""
    job, progress = story.job, story.progress
    if progress.planned_at is None:
        say("Its contacts are not selected yet. A worker does that first.")
        return
    if progress.state is JobState.PLANNED:
        show_forecast(job)
        return
    say(_headline(story))
    if progress.planned:
        table(("outcome", "count", "reason", "because"), _count_rows(progress))
    if progress.last_error:
        say(f"\nA part failed and is tried again: {progress.last_error}")
    if story.recognised:
        say(
            f"\n{counted(story.recognised, 'row')} of the file recognised as contacts that the"
            " account had."
        )
    if story.refusals:
        say("\nRows and cells of the file that were left out:")
        table(("count", "reason", "because"), _refusal_rows(story.refusals))
        say(f"`sluice results {job.id} --outcome refusals` lists them.")


def _headline(story: JobStory) -> str:
    progress, job = story.progress, story.job
    what = f"{progress.planned:,} selected pairs of contact and field"
    if warning := warning_of(job, progress.selected):
        return f"Job {job.id} is {progress.state.value}. {warning}"
    if progress.state is JobState.COMPLETED:
        return f"Job {job.id} is completed: all {what} are accounted for.{_pace(story)}"
    return f"Job {job.id} is {progress.state.value}: {progress.done:,} of {what} are done."


def _pace(story: JobStory) -> str:
    job = story.job
    if job.started_at is None or job.finished_at is None:
        return ""
    seconds = (job.finished_at - job.started_at).total_seconds()
    if seconds < _SHORT_SECONDS:
        return f" It took less than {_SHORT_SECONDS} s."
    return f" It took {seconds:,.1f} s, {story.progress.done / seconds:,.0f} a second."


def _count_rows(progress: jobs.Progress) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for outcome in _OUTCOMES:
        count = getattr(progress, outcome)
        if outcome == "propagated" and not count:
            continue
        rows.append((outcome, count, "", _NOTES.get(outcome, "") if count else ""))
        prefix = f"{outcome}:"
        rows.extend(
            ("", count, reason := key.removeprefix(prefix), meaning_of_reason(reason))
            for key, count in sorted(progress.reasons.items(), key=lambda item: -item[1])
            if key.startswith(prefix)
        )
    if progress.state in ENDED and progress.done < progress.planned:
        left = progress.planned - progress.done
        rows.append(("unprocessed", left, "", "the job ended before it came to these"))
    return rows


def _refusal_rows(refusals: dict[str, int]) -> list[tuple[object, ...]]:
    meanings = {reason.value: text for reason, text in REFUSAL_MEANINGS.items()}
    return [
        (count, reason, meanings.get(reason) or meaning_of_reason(reason))
        for reason, count in refusals.items()
    ]


_NOTES = {
    "empty": "the contact has no address in that field",
    "propagated": "in addition: other addresses of the same people, which the opt-out reached",
}


def _in_words(given: dict[str, Any]) -> str:
    return ", ".join(_pair_in_words(name, value) for name, value in given.items())


def _pair_in_words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name}: {' or '.join(map(str, value)) if isinstance(value, list) else value}"
