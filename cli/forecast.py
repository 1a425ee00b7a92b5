"""What a planned job would do, for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from actions.registry import describe_reason
from cli.rendering import format_count, print_table, print_text
from db.jobs import Job
from producers.job_view import job_warning

_OUTCOMES = ("applied", "unchanged", "rejected", "empty")


def store_forecast(job: Job) -> None:
    """Print what the job would do, by field, outcome and reason, and how to apply it."""
    forecast = job.forecast
    assert forecast is not None
    drift = (job.confirmation or {}).get("drift")
    if drift:
        changes = ", ".join(f"{name} by {by:+,}" for name, by in drift.items())
        print_text(
            f"Since it was confirmed the counts have changed: {changes}. Nothing was done.\n"
        )
    if warning := job_warning(job, forecast["selected"]):
        print_text(f"Job {job.id} is planned and has changed nothing. {warning}")
        print_text(f"`sluice cancel {job.id}` ends it.")
        return
    pairs = format_count(forecast["selected"], "selected pair")
    print_text(f"Job {job.id} is planned and has changed nothing. With {pairs} it would do this:")
    print_table(("field", "outcome", "count", "reason", "because"), _rows(forecast["fields"]))
    if job.unknown:
        print_text(f"Addresses of the list that the account did not know: {job.unknown:,}.")
    if forecast["propagated"]:
        print_text(
            f"Further addresses of the same people that it would reach: {forecast['propagated']:,}."
        )
    print_text(
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
                    yield "", "", number, reason, describe_reason(reason)
