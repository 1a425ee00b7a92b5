"""The tables of faults and checks, and the line that sums them up."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.table import Table

from tests.chaos.checks import CheckResult
from tests.chaos.fault_plan import Fault, Kind
from tests.chaos.recovery import Recovery


class ChaosReport(NamedTuple):
    """The results of a chaos run.

    `done` has each fault with a text that says what it did. `requests` counts the HTTP requests by
    their responses.
    """

    seed: int
    seconds: float
    done: list[tuple[Fault, str]]
    recoveries: list[Recovery]
    checks: list[CheckResult]
    work: dict[str, int]
    requests: dict[str, int]

    @property
    def violations(self) -> int:
        """Return the number of violations of all checks."""
        return sum(check.violations for check in self.checks)

    def last_line(self) -> str:
        """Return the line that sums up the run."""
        return (
            f"chaos: seed={self.seed} faults={len(self.done)} jobs={self.work['jobs']}"
            f" addresses={self.work['addresses']} violations={self.violations}"
        )

    def exit_status(self) -> int:
        """Return 1 if any check was violated, otherwise 0."""
        return 1 if self.violations else 0

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            "faults": [fault._asdict() | {"did": did} for fault, did in self.done],
            "recoveries": [recovery._asdict() for recovery in self.recoveries],
            "checks": [check._asdict() for check in self.checks],
            "work": self.work,
            "requests": self.requests,
            "violations": self.violations,
        }


def fault_table(report: ChaosReport) -> Table:
    """Return the table of kinds of faults: how many, what they did, and the recovery times."""
    table = Table(
        title="Faults",
        title_justify="left",
        caption="Recovery times in seconds. New job: from the end of the cause until a new job of"
        " one contact was done. All jobs: until every running job had advanced too, from the end of"
        " the latest cause; own: from the end of this cause. Web: until the web process was ready.",
        caption_justify="left",
    )
    table.add_column("fault")
    for heading in (
        *("count", "new job: median", "worst", "all jobs: median", "worst", "own"),
        *("web: median", "worst"),
    ):
        table.add_column(heading, justify="right")
    table.add_column("last fault")
    did: dict[Kind, list[str]] = defaultdict(list)
    for fault, words in report.done:
        did[fault.kind].append(words)
    for kind in Kind:
        if did[kind]:
            table.add_row(
                kind, str(len(did[kind])), *_times(report.recoveries, kind), did[kind][-1]
            )
    return table


def _times(recoveries: Sequence[Recovery], kind: Kind) -> tuple[str, ...]:
    of_kind = [recovery for recovery in recoveries if recovery.kind is kind]
    own = max((recovery.after_own_end for recovery in of_kind), default=None)
    return (
        *_median_and_worst([recovery.new_job for recovery in of_kind]),
        *_median_and_worst([recovery.seconds for recovery in of_kind]),
        "" if own is None else f"{own:.1f}",
        *_median_and_worst([recovery.web for recovery in of_kind]),
    )


def _median_and_worst(seconds: Sequence[float | None]) -> tuple[str, str]:
    known = [value for value in seconds if value is not None]
    if not known:
        return "", "never" if seconds else ""
    worst = f"{max(known):.1f}" if len(known) == len(seconds) else "never"
    return f"{statistics.median(known):.1f}", worst


def requests_line(report: ChaosReport) -> str:
    """Return a line that counts the HTTP requests by their answers."""
    by_answer = (f"{count} {answer}" for answer, count in report.requests.items())
    return f"{sum(report.requests.values())} HTTP requests: {', '.join(by_answer)}."


def check_table(report: ChaosReport) -> Table:
    """Return the table of checks: their violations, with the first examples."""
    table = Table(title="Checks", title_justify="left")
    table.add_column("check")
    table.add_column("violations", justify="right")
    table.add_column("examples", overflow="fold")
    for check in report.checks:
        shown = f"[red]{check.violations}[/]" if check.violations else "[green]0[/]"
        table.add_row(check.name, shown, "\n".join(check.examples).replace("[", "\\["))
    return table
