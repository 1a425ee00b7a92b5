"""The tables of the measurement under load."""

from typing import Any

from rich.table import Table

_LATENCY = (
    ("opt_outs", "acknowledged", ""),
    ("rate_achieved", "a second", ""),
    ("ms_median", "from arrival to answer, median", " ms"),
    ("ms_p99", "  99th percentile", " ms"),
    ("ms_worst", "  worst", " ms"),
    ("ms_sent_late_worst", "sent after its time, at worst", " ms"),
    ("deferred", "left to the workers", ""),
    ("lost", "lost", ""),
    ("acknowledged_too_early", "acknowledged before it was committed", ""),
    ("looked_at", "  of so many looked at", ""),
    ("others_percent", "processor time that other programs took", " %"),
)


def latency(taken: dict[str, Any]) -> Table:
    """How long recipients waited, idle and beside large jobs."""
    figures, options = taken["figures"], taken["options"]
    table = Table(
        title=f"opt-outs of single recipients at {options['rate']:g} a second for"
        f" {options['seconds']:g} s, {options['connections']} connections",
        title_justify="left",
    )
    table.add_column("what")
    table.add_column("idle", justify="right")
    table.add_column(f"beside jobs of {figures['contacts']:,} contacts", justify="right")
    for name, what, unit in _LATENCY:
        table.add_row(what, *(f"{figures[phase][name]:,}{unit}" for phase in ("idle", "beside")))
    return table


def fairness(taken: dict[str, Any]) -> Table:
    """How jobs fared beside other jobs."""
    figures = taken["figures"]
    table = Table(title="jobs beside other jobs", title_justify="left")
    table.add_column("what")
    table.add_column("started", justify="right")
    table.add_column("done", justify="right")
    for action, job in figures["small"].items():
        table.add_row(
            f"{action} of {job['contacts']} contacts, beside one of {figures['contacts']:,}",
            f"after {job['started_s']:.2f} s",
            f"after {job['done_s']:.2f} s",
        )
    ten = figures["alike"]
    table.add_row(
        f"{ten['jobs']} accounts with a job of {ten['contacts']:,} contacts each, when the first"
        " is half done",
        f"the last after {ten['last_started_s']:.2f} s",
        f"{ten['share_least']:.0%} to {ten['share_most']:.0%} of each",
    )
    return table


def violations(taken: dict[str, Any]) -> int:
    """How many opt-outs were lost, or acknowledged before they were committed."""
    phases = (taken["figures"][phase] for phase in ("idle", "beside"))
    return sum(phase["lost"] + phase["acknowledged_too_early"] for phase in phases)
