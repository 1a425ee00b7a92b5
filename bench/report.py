"""The table of goals and figures, and the file that keeps them."""

import json
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

RESULTS = Path(__file__).with_name("results")

Figures = dict[str, Any]


class Line(NamedTuple):
    """One line of the table; `ok` is None where there is no goal."""

    what: str
    goal: str
    measured: str
    ok: bool | None


def lines(figures: Figures) -> list[Line]:
    """The table's lines for what was measured."""
    made: list[Line] = []
    if "import" in figures:
        made += _import_lines(figures["import"], figures["contacts"])
    for name, title, goal in (
        ("opt_in", "opt-in of both fields", 150_000),
        ("opt_out", "opt-out of both fields", None),
        ("opt_out_spread", "opt-out of email1, spreading to email2", None),
    ):
        if figures.get(name):
            made += _job_lines(figures[name], title, goal)
    made += _fleet_lines(figures)
    if "one_contact" in figures:
        small = figures["one_contact"]
        made.append(
            Line(
                f"job of one contact, submit to completed, median of {small['jobs']}",
                "",
                f"{small['ms_median']} ms ({small['ms_shortest']} to {small['ms_longest']})",
                None,
            )
        )
    return made


def _import_lines(run: Figures, contacts: int) -> list[Line]:
    # The goals are for a million rows; other sizes are shown against their share.
    seconds = 60 * contacts / 1_000_000
    total, memory = run["total_seconds"], run["submitter"]["rss_mb"]
    return [
        Line(
            f"import of {contacts:,} rows, two addresses each",
            f"< {seconds:g} s",
            f"{total:.1f} s ({run['staging_seconds']:.1f} staging"
            f" + {run['working_seconds']:.1f} working)",
            total < seconds,
        ),
        Line("memory of the importing process", "< 200 MB", f"{memory:.0f} MB", memory < 200),
    ]


def _job_lines(runs: Sequence[Figures], title: str, goal: int | None) -> list[Line]:
    def of(name: str) -> str:
        return spread_of([run[name] for run in runs], lambda value: f"{value:,.0f}")

    median = statistics.median(run["addresses_per_second"] for run in runs)
    made = [
        Line(
            title,
            f"≥ {goal:,} addresses/s" if goal else "",
            f"{of('addresses_per_second')} addresses/s",
            median >= goal if goal else None,
        ),
    ]
    if any(run["propagated"] for run in runs):
        changed = f"{of('changed_per_second')} /s"
        made.append(Line("  of these and those reached", "", changed, None))
    made.append(
        Line(
            "  plan; chunk, median and longest",
            "",
            f"{spread_of([run['plan_seconds'] for run in runs], lambda value: f'{value:.2f}')} s;"
            f" {of('chunk_ms_median')} and {of('chunk_ms_longest')} ms",
            None,
        )
    )
    return made


def _fleet_lines(figures: Figures) -> list[Line]:
    runs = [run for name in ("opt_in", "opt_out", "opt_out_spread") for run in figures[name]]
    if "import" in figures:
        runs.append(figures["import"])
    if not runs:
        return []
    longest = max(run["chunk_ms_longest"] for run in runs)
    rss = max(worker["rss_mb"] for run in runs for worker in run["workers"])
    uss = max(worker["uss_mb"] for run in runs for worker in run["workers"])
    return [
        Line("longest chunk transaction of all", "< 500 ms", f"{longest} ms", longest < 500),
        Line(
            "memory of a worker process, the largest",
            "< 100 MB",
            f"{rss:.0f} MB ({uss:.0f} MB its own)",
            rss < 100,
        ),
        Line(
            "processor time that other programs took, at most",
            "",
            f"{max(run['others_percent'] for run in runs):.0f} %",
            None,
        ),
    ]


def spread_of(values: Sequence[float], shown: Callable[[float], str]) -> str:
    """The median, and the range where there are several."""
    median = shown(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({shown(min(values))} to {shown(max(values))})"


def table(made: Sequence[Line], title: str) -> Table:
    """The lines for people."""
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("what")
    drawn.add_column("goal", justify="right")
    drawn.add_column("measured", justify="right")
    drawn.add_column("ok?", justify="center")
    verdicts = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for line in made:
        drawn.add_row(line.what, line.goal, line.measured, verdicts[line.ok])
    return drawn


def keep(report: Figures, name: str) -> Path:
    """Write the report to a file of its own in `results/`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{name}.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
