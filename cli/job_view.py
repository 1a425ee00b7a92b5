"""A job for people: what was asked for, where it stands, and the outcome of each pair."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import typer

from actions.registry import describe_reason
from cli.output_guard import OutputClosed
from cli.rendering import format_count, print_facts, print_json, print_table, print_text
from producers.job_view import JobView
from schemas.outcomes import FINAL_STATES, JobState
from schemas.staging import ImportRejectionReason

_SHORT_SECONDS = 1
"""A shorter job shows no rate, since it would not predict that of a longer one."""

_OUTCOMES = ("applied", "unchanged", "rejected", "empty")
_EMPTY = "the contact has no address in that field"
_PROPAGATED = "in addition: siblings, which the opt-out was propagated to"


def print_job(job: JobView, *, ended: bool, json_output: bool) -> None:
    """Print the job. With `ended`, exit with status 1 if the job is not completed."""
    # The exit status depends on the answer, even if nobody reads it to its end.
    with suppress(OutputClosed):
        if json_output:
            print_json(job)
        else:
            _show_job(job)
    if ended and job.state is not JobState.COMPLETED:
        raise typer.Exit(1)


def _show_job(job: JobView) -> None:
    print_facts(
        [
            ("job", f"{job.id} {job.action}"),
            ("state", job.state.value),
            ("account", job.account),
            ("selection", _format_conditions(job.selection) or None),
            ("unknown addresses", job.unknown),
            ("fields", ", ".join(job.fields)),
            ("parameters", _format_conditions(job.params) or None),
            ("evidence", _format_conditions(job.evidence) if job.evidence else None),
            ("requested by", job.requested_by),
            ("actor", _format_actor(job.actor, job.via) if job.actor else None),
            ("idempotency key", job.idempotency_key),
            ("created", job.created_at),
            ("started", job.started_at),
            ("finished", job.finished_at),
            ("confirmed by", _format_confirmation(job)),
            ("error", job.error),
        ]
    )
    print_text("")
    show_counts(job)


def _format_confirmation(job: JobView) -> str | None:
    if job.confirmation is None or job.confirmed_at is None:
        return None
    by, actor = job.confirmation["by"], job.confirmation.get("actor")
    return f"{by} ({_format_actor(actor, job.confirmation['via'])})" if actor else str(by)


def _format_actor(actor: str, via: str | None) -> str:
    return actor if via in {None, actor} else f"{actor}, via {via}"


def show_counts(job: JobView) -> None:
    """Print the selected pairs by outcome and reason; of a planned job, its forecast."""
    if job.planned_at is None:
        print_text("Its contacts are not selected yet. A worker does that first.")
        return
    if job.state is JobState.PLANNED:
        _show_forecast(job)
        return
    print_text(_format_headline(job))
    if job.selected:
        print_table(("outcome", "count", "reason", "because"), _count_rows(job))
    if job.last_error:
        print_text(f"\nA chunk failed and will be tried again: {job.last_error}")
    if job.recognized:
        print_text(f"\n{format_count(job.recognized, 'row')} recognized as existing contacts.")
    if job.import_rejections:
        print_text("\nRows and cells of the file that were left out:")
        print_table(
            ("count", "reason", "because"),
            [
                (count, reason, _REJECTION_MEANINGS.get(reason) or describe_reason(reason))
                for reason, count in job.import_rejections.items()
            ],
        )
        print_text(f"`sluice results {job.id} --outcome import_rejections` lists them.")


_REJECTION_MEANINGS = {reason.value: reason.meaning for reason in ImportRejectionReason}


def _format_headline(job: JobView) -> str:
    if job.warning:
        return f"Job {job.id} is {job.state.value}. {job.warning}"
    pairs = f"{job.selected:,} selected pairs of contact and field"
    if job.state is JobState.COMPLETED:
        return f"Job {job.id} is completed: all {pairs} are accounted for.{_format_rate(job)}"
    return f"Job {job.id} is {job.state.value}: {job.counts.done:,} of {pairs} are done."


def _format_rate(job: JobView) -> str:
    if job.started_at is None or job.finished_at is None:
        return ""
    seconds = (job.finished_at - job.started_at).total_seconds()
    if seconds < _SHORT_SECONDS:
        return f" It took less than {_SHORT_SECONDS} s."
    return f" It took {seconds:,.1f} s, {job.rate:,.0f} a second."


def _count_rows(job: JobView) -> Iterator[tuple[object, ...]]:
    for outcome in _OUTCOMES:
        count = getattr(job.counts, outcome)
        yield outcome, count, "", _EMPTY if count and outcome == "empty" else ""
        reasons = job.reasons.get(outcome, {})
        for reason, each in sorted(reasons.items(), key=lambda item: -item[1]):
            yield "", each, reason, describe_reason(reason)
    if job.counts.propagated:
        yield "propagated", job.counts.propagated, "", _PROPAGATED
    left = (job.selected or 0) - job.counts.done
    if left > 0 and job.state in FINAL_STATES:
        yield "unprocessed", left, "", "the job ended before it reached these"


def _show_forecast(job: JobView) -> None:
    """Print what the job would do, by field, outcome and reason, and how to apply it."""
    forecast = job.forecast
    assert forecast is not None
    if drift := (job.confirmation or {}).get("drift"):
        changes = ", ".join(f"{name} by {by:+,}" for name, by in drift.items())
        print_text(f"The counts have changed since they were confirmed: {changes}.")
        print_text("Nothing was done.\n")
    planned = f"Job {job.id} is planned and has changed nothing."
    if job.warning:
        print_text(f"{planned} {job.warning}")
        print_text(f"`sluice cancel {job.id}` ends it.")
        return
    print_text(f"{planned} With {format_count(forecast['selected'], 'selected pair')} it would:")
    print_table(("field", "outcome", "count", "reason", "because"), _forecast_rows(forecast))
    if job.unknown:
        print_text(f"The account did not know {job.unknown:,} of the listed addresses.")
    if forecast["propagated"]:
        print_text(f"It would also opt out {format_count(forecast['propagated'], 'sibling')}.")
    print_text(
        f"`sluice apply {job.id}` runs it if these counts still hold."
        f" `sluice cancel {job.id}` ends it."
    )


def _forecast_rows(forecast: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for field, counts in forecast["fields"].items():
        for outcome in _OUTCOMES:
            yield field, outcome, counts[outcome], "", ""
            for key, number in counts["reasons"].items():
                of_outcome, _, reason = key.partition(":")
                if of_outcome == outcome:
                    yield "", "", number, reason, describe_reason(reason)


def _format_conditions(given: Mapping[str, Any]) -> str:
    return ", ".join(_format_condition(name, value) for name, value in given.items())


def _format_condition(name: str, value: object) -> str:
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name}: {' or '.join(map(str, value)) if isinstance(value, list) else value}"
