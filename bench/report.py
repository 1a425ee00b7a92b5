"""The report of a session: goals and figures as tables, for the terminal and for the page."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.contenders import CONTENDERS
from bench.goals import judge_all
from bench.samples import Session, shown
from tests.kit.worker_group import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"

_TEMPLATE = Path(__file__).with_name("page.md")


class Figures(NamedTuple):
    """A table of the report."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(session: Session, large: Session | None) -> list[Figures]:
    """Return all tables, goals first. Figures that only `large` has are followed by its origin."""
    goals = list(judge_all(session, large))
    made = [Figures("Goals", ("what", "goal", "measured", "reached"), goals)]
    for title, metrics in _titles([*session.samples, *(large.samples if large else ())]).items():
        rows = {}
        for source in (large, session):
            for name in source.samples if source else ():
                metric, _, subject = name.partition("/")
                if source and metric in metrics:
                    cells = [source.samples.summary(f"{each}/{subject}") for each in metrics]
                    origin = f" [{source.origin}]" if source is large else ""
                    label = _label(subject, source) + origin
                    rows[subject] = (label, *(shown(cell) if cell else "" for cell in cells))
        columns = ("what", *(metric.removeprefix(f"{title}: ") for metric in metrics))
        made.append(Figures(title[0].upper() + title[1:], columns, list(rows.values())))
    return made


def _titles(names: Iterable[str]) -> dict[str, dict[str, None]]:
    """Return the metrics of each table, whose title is the metrics' text before a colon."""
    titles: dict[str, dict[str, None]] = {}
    for name in names:
        metric = name.partition("/")[0]
        titles.setdefault(metric.partition(": ")[0], {})[metric] = None
    return titles


def _label(subject: str, session: Session) -> str:
    """Write a list as its number of contacts, and a contender as its title."""
    parts = []
    for part in subject.split("/"):
        contacts = session.sizes.get(part)
        title = CONTENDERS[part].title if part in CONTENDERS else part.replace("_", "-")
        parts.append(f"{contacts:,} contacts" if contacts else title)
    return ": ".join(parts)


def print_report(made: Sequence[Figures]) -> None:
    """Print the tables. Without a terminal, they are as wide as necessary."""
    console = Console()
    console = console if console.is_terminal else Console(width=170)
    for figures in made:
        table = Table(title=figures.title, title_justify="left")
        for at, column in enumerate(figures.columns):
            table.add_column(column, justify="right" if at else "left")
        for row in figures.rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        console.print(table)


def write_page(session: Session, large: Session | None, path: Path) -> None:
    """Write the page of figures. All figures come from the sessions; the rest is `page.md`."""
    goals, *figures = tables(session, large)
    verdicts = [row[-1] for row in goals.rows]
    missed = "; ".join(row[0] for row in goals.rows if row[-1] == "no")
    summary = f"Of {len(verdicts)} goals {verdicts.count('yes')} were reached"
    summary += f". Missed: {missed}" if missed else ""
    if "" in verdicts:
        summary += f". Not measured: {verdicts.count('')}"
    machine = {"measured": session.taken_at.replace("T", " "), **session.machine}
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        {name: f"{value:,}" for name, value in session.sizes.items()},
        summary=f"{summary}.",
        goals=_markdown(goals),
        figures="\n\n".join(f"### {each.title}\n\n{_markdown(each)}" for each in figures),
        machine=_markdown(
            Figures("", ("", ""), [(name, str(value)) for name, value in machine.items()])
        ),
    )
    path.write_text(page, encoding="utf-8")


def _markdown(figures: Figures) -> str:
    lines = [figures.columns, ["---"] * len(figures.columns), *figures.rows]
    # Brackets would begin a link.
    cells = ([cell.replace("[", "(").replace("]", ")") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


if __name__ == "__main__":
    newest = Session.read("bench")
    assert newest is not None
    write_page(newest, Session.read("large"), PAGE)
