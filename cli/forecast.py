"""What a planned job would do, for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from actions.registry import meaning_of_reason
from cli.rendering import counted, say, table
from db.jobs import Job
from producers.job_view import warning_of

_OUTCOMES = ("applied", "unchanged", "rejected", "empty")


def show_forecast(job: Job) -> None:
    """What the job would do, by field, outcome and reason, and how to apply it."""
    forecast = job.forecast
    assert forecast is not None
    drift = (job.confirmation or {}).get("drift")
    if drift:
        changes = ", ".join(f"{name} by {by:+,}" for name, by in drift.items())
        say(f"Since it was confirmed the counts have changed: {changes}. Nothing was done.\n")
    if warning := warning_of(job, forecast["selected"]):
        say(f"Job {job.id} is planned and has changed nothing. {warning}")
        say(f"`sluice cancel {job.id}` ends it.")
        return
    pairs = counted(forecast["selected"], "selected pair")
    say(f"Job {job.id} is planned and has changed nothing. With {pairs} it would do this:")
    table(("field", "outcome", "count", "reason", "because"), _rows(forecast["fields"]))
    if job.unknown:
        say(f"Addresses of the list that the account did not know: {job.unknown:,}.")
    if forecast["further"]:
        say(f"Further addresses of the same people that it would reach: {forecast['further']:,}.")
    say(
        f"`sluice apply {job.id}` runs it if these counts still hold."
        f" `sluice cancel {job.id}` ends it."
    )


def _rows(fields: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for field, counts in fields.items():
        for outcome in _OUTCOMES:
            yield field, outcome, counts[outcome], "", ""
            prefix = f"{outcome}:"
            for key, number in counts["reasons"].items():
                if key.startswith(prefix):
                    reason = key.removeprefix(prefix)
                    yield "", "", number, reason, meaning_of_reason(reason)
