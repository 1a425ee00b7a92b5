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
    """All that came of a storm. `done` tells of each fault what it did, in its own words;
    `requests` counts the requests over HTTP by how they were answered.
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
        """How often anything was not as it has to be."""
        return sum(check.violations for check in self.checks)

    def last_line(self) -> str:
        """What a program, or a person in a hurry, reads."""
        return (
            f"chaos: seed={self.seed} faults={len(self.done)} jobs={self.work['jobs']}"
            f" addresses={self.work['addresses']} violations={self.violations}"
        )

    def exit_status(self) -> int:
        """1 where anything was violated."""
        return 1 if self.violations else 0

    def as_json(self) -> dict[str, Any]:
        """The same for a program."""
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
    """Each kind of fault: how often, what it did, how long it took to be made good."""
    table = Table(
        title="Faults",
        title_justify="left",
        caption="Seconds from the end of a cause until a new job of one contact was done; and until"
        " that was so and every job at work had moved, counted from the last end of any cause"
        " before that, or from its own. Web: until the web process was ready, counted alike.",
        caption_justify="left",
    )
    table.add_column("fault")
    for heading in (
        *("times", "new job: median", "worst", "all moved: median", "worst", "own"),
        *("web: median", "worst"),
    ):
        table.add_column(heading, justify="right")
    table.add_column("the last one")
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
    """How the requests over HTTP were answered."""
    by_answer = (f"{count} {answer}" for answer, count in report.requests.items())
    return f"{sum(report.requests.values())} requests over HTTP: {', '.join(by_answer)}."


def check_table(report: ChaosReport) -> Table:
    """Each check, how often it was violated, and the first times."""
    table = Table(title="Checks", title_justify="left")
    table.add_column("what has to hold")
    table.add_column("violations", justify="right")
    table.add_column("examples", overflow="fold")
    for check in report.checks:
        shown = f"[red]{check.violations}[/]" if check.violations else "[green]0[/]"
        table.add_row(check.name, shown, "\n".join(check.examples).replace("[", "\\["))
    return table
