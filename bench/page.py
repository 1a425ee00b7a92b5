"""`python -m bench.page RESULTS.json`: write `docs/benchmarks.md` from what was measured.

Every figure on the page is taken from the file; what is written here are words.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from bench import over_http
from bench.latency import CONNECTIONS, LONGEST_SECONDS, RATE
from bench.line import Line
from tests.kit.worker_group import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"

_METHOD = Path(__file__).with_name("page_method.md")
"""How it is measured, in words."""

_SAMPLES = (
    "All samples are in [bench/results](../bench/results); what each measurement does is in"
    " [bench/README.md](../bench/README.md)."
)

_VERDICTS = {True: "yes", False: "no", None: ""}


def write_page(taken: dict[str, Any], path: Path) -> None:
    """Write the page."""
    path.write_text(page(taken), encoding="utf-8")


def page(taken: dict[str, Any]) -> str:
    """The page's text."""
    made = [Line(**row) for row in taken["table"]]
    goals = [line for line in made if line.goal]
    rest = [line for line in made if not line.goal]
    return (
        "\n\n".join(
            [
                "# Benchmarks",
                "This page is written by `make bench`; changes by hand are lost with the next run.",
                _summary(goals),
                "## Goals and figures",
                _table(
                    ("what", "goal", "measured", "reached"), [_with_goal(line) for line in goals]
                ),
                "![Addresses per second](benchmarks/rates.svg)",
                "![How long a single opt-out takes](benchmarks/latency.svg)",
                "![Addresses per second by the size of the list](benchmarks/sizes.svg)",
                "## How it was measured",
                _method(taken),
                "## The machine",
                _machine(taken),
                "## All figures",
                _table(("what", "measured"), [(line.what.strip(), line.measured) for line in rest]),
                "## To repeat it",
                _repeat(taken),
            ]
        )
        + "\n"
    )


def _summary(goals: Sequence[Line]) -> str:
    reached = sum(line.ok is True for line in goals)
    missed = [line.what for line in goals if line.ok is False]
    text = f"Of {len(goals)} goals {reached} were reached"
    if missed:
        text += f"; missed: {'; '.join(missed)}"
    unknown = sum(line.ok is None for line in goals)
    return text + (f"; {unknown} not measured." if unknown else ".")


def _with_goal(line: Line) -> tuple[str, ...]:
    return line.what, line.goal, line.measured, _VERDICTS[line.ok]


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    # Brackets would begin a link.
    cells = (
        [cell.replace("|", "\\|").replace("[", "(").replace("]", ")") for cell in line]
        for line in lines
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _method(taken: dict[str, Any]) -> str:
    options, settings = taken["options"], taken["settings"]
    durable = taken["machine"]["postgres_settings"]
    return (
        Template(_METHOD.read_text(encoding="utf-8"))
        .substitute(
            fsync=durable["fsync"],
            synchronous_commit=durable["synchronous_commit"],
            threads=settings["worker_threads"],
            chunk=f"{settings['chunk_size']:,}",
            rounds=options["rounds"],
            passes=options["passes"],
            bulk=f"{options['bulk']:,}",
            objects=f"{options['objects']:,}",
            rate=f"{RATE:g}",
            longest=f"{LONGEST_SECONDS:g}",
            connections=CONNECTIONS,
            web_opt_outs=f"{options['web_opt_outs']:,}",
            web_connections=over_http.CONNECTIONS,
            web_rate=f"{over_http.RATE:g}",
            listed=f"{options['listed']:,}",
        )
        .strip()
    )


def _machine(taken: dict[str, Any]) -> str:
    machine = taken["machine"]
    changes = " with changes" if machine["git_changes"] else ""
    rows = [
        ("measured", taken["taken_at"].replace("T", " ")),
        ("commit", f"{str(machine['git_commit'])[:12]}{changes}"),
        ("processors", f"{machine['cores']} ({machine['cpu']})"),
        ("memory", f"{machine['memory_mb']:,} MB"),
        ("system", machine["kernel"]),
        ("Python", machine["python"]),
        ("Postgres", machine["postgres"]),
        ("queue server", machine["redis"]),
        *((name, version) for name, version in machine["libraries"].items()),
        *machine["postgres_settings"].items(),
    ]
    return _table(("", ""), rows)


def _repeat(taken: dict[str, Any]) -> str:
    minutes = sum(taken["parts"].values()) / 60
    parts = [(name, f"{seconds:,.0f} s") for name, seconds in taken["parts"].items()]
    return "\n".join(
        [
            "    make bench                   everything here but what has a day and a commit",
            "    make bench CONTACTS=10000    a quick look, of which nothing is kept",
            "    make bench-large             1,000,000 and 10,000,000 contacts; 40 minutes, 40 GB",
            "",
            f"`make bench` took {minutes:.0f} minutes here:",
            "",
            _table(("part", "time"), parts),
            "",
            _SAMPLES,
        ]
    )


if __name__ == "__main__":
    write_page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), PAGE)
