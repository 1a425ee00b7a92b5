"""The table of goals and figures."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from bench.figures import Figures, Rate
from bench.goals import goals, large_goals, since
from bench.http_goals import http_lines
from bench.line import NOT_MEASURED, Line
from bench.waits import waited


def lines(
    figures: dict[str, Any], large: dict[str, Any] | None, titles: dict[str, str]
) -> list[Line]:
    """All lines: those with a goal first. `large` is what a file of `make bench-large` says."""
    here = Figures(figures)
    measured = rates(figures, titles)
    return [
        *goals(here),
        *large_goals(large),
        *_rates_of_both(measured, large, titles),
        *_others(here, titles),
    ]


def rates(figures: dict[str, Any], titles: dict[str, str]) -> list[Line]:
    """The rates of everyone, with their ranges."""
    here = Figures(figures)
    made: dict[str, Line] = {}
    for group, contacts, keys in here.groups():
        for job, words in (("opt_in", "opt-in"), ("opt_out", "opt-out, spreading")):
            for key in keys:
                rate = here.rate(group, key, job)
                what = f"{words}, {contacts:,} contacts: {titles[key]}"
                name = f"rate {contacts} {job} {key}"
                # In a quick look two groups may have lists of one size.
                if rate is not None and name not in made:
                    made[name] = _plain(name, what, shown_rate(rate))
    return list(made.values())


def _rates_of_both(
    measured: list[Line], large: dict[str, Any] | None, titles: dict[str, str]
) -> list[Line]:
    """What was measured now, after what was not and stands in the file of `make bench-large`."""
    if large is None:
        return measured
    known = {line.key for line in measured}
    there = [
        line._replace(measured=line.measured + since(large))
        for line in rates(large["figures"], titles)
        if line.key not in known
    ]
    # The largest list first.
    return sorted([*there, *measured], key=lambda line: -int(line.key.split()[1]))


def shown_rate(rate: Rate) -> str:
    """The median and the range."""
    return f"{rate.median:,.0f} addresses/s ({rate.least:,.0f} to {rate.most:,.0f})"


def _others(here: Figures, titles: dict[str, str]) -> list[Line]:
    made = _waits(here, titles) + _bytes(here, titles) + _memory(here, titles)
    plan = (
        here.of_runs(here.groups()[0][0], "sluice_2", "opt_in", "plan_seconds")
        if (here.groups())
        else None
    )
    made.append(
        _plain(
            "plan",
            f"time to plan a job of {here.groups()[0][1]:,} contacts" if plan else "time to plan",
            f"{plan['median']:.2f} s ({plan['least']:.2f} to {plan['most']:.2f})" if plan else None,
        )
    )
    made.append(_imports(here))
    commands = here.idle("redis", "commands_per_second")
    made.append(
        _plain(
            "redis",
            "Redis commands of 2 idle worker processes",
            None if commands is None else f"{commands:.1f} a second",
        )
    )
    made.append(_taken_by_others(here))
    return made + http_lines(here)


def _taken_by_others(here: Figures) -> Line:
    others = here.others_percent()
    return _plain(
        "others",
        "processor time that other programs took during a run, median and range",
        f"{others['median']:.0f} % ({others['least']:.0f} to {others['most']:.0f})"
        if others
        else None,
    )


def _waits(here: Figures, titles: dict[str, str]) -> list[Line]:
    made = [_plain("wait idle", "single opt-out at rest", waited(here.idle("opt_outs")))]
    for key, contacts in here.ran_beside():
        for job, words in (("opt_in", "opt-in"), ("opt_out", "opt-out")):
            what = f"single opt-out during an {words} of {contacts:,} contacts: {titles[key]}"
            made.append(_plain(f"wait {key} {job}", what, waited(here.waits_beside(key, job))))
            locked = _locked(here.beside(key, job))
            made.append(_plain(f"lock {key} {job}", "  longest time locked", locked))
    return made


def _locked(passes: Sequence[dict[str, Any]]) -> str:
    """The longest of all passes."""
    longest = max((seen["locks"] for seen in passes), key=lambda locks: locks["held_ms_at_most"])
    probe = max(seen["locks"]["probe_ms_longest"] for seen in passes)
    shown = (
        f"{longest['held_ms_seen']:,.0f} to {longest['held_ms_at_most']:,.0f} ms;"
        f" a probe {probe:,.0f} ms"
    )
    tries = max(seen.get("tries", 1) for seen in passes)
    if tries > 1:
        shown += f"; begun {tries} times because of deadlocks"
    chunks = [seen["chunk_ms_longest"] for seen in passes if "chunk_ms_longest" in seen]
    return shown + (f"; a chunk {max(chunks):,} ms" if chunks else "")


def _bytes(here: Figures, titles: dict[str, str]) -> list[Line]:
    """Of the largest list with each contender and job, and of one number of processes, on which
    they do not depend.
    """
    made: dict[str, Line] = {}
    for group, _, keys in here.groups():
        for key in keys:
            for job, words in (("opt_in", "opt-in"), ("opt_out", "opt-out")):
                name = f"bytes {key} {job}"
                if (
                    name in made
                    or key in {"sluice_1", "sluice_4"}
                    or not here.rate(group, key, job)
                ):
                    continue
                what = f"bytes per address of an {words}: {titles[key]}"
                made[name] = _plain(name, what, _byte_kinds(here, group, key, job))
    return list(made.values())


def _byte_kinds(here: Figures, group: str, key: str, job: str) -> str:
    def of(*names: str) -> float:
        found = [here.of_runs(group, key, job, "bytes_per_address", name) for name in names]
        return sum(each["median"] for each in found if each)

    tables = of("results_table", "addresses_table")
    indexes = of("results_indexes", "addresses_indexes")
    return f"{of('wal'):,.0f} WAL, {tables:,.0f} tables, {indexes:,.0f} indexes"


def _memory(here: Figures, titles: dict[str, str]) -> list[Line]:
    keys = dict.fromkeys(key for _, _, keys in here.groups() for key in keys)
    made = []
    for key in keys:
        memory = here.memory(key)
        if memory is not None:
            shown = f"{memory[0]:.0f} MB, {memory[1]:.0f} MB of it shared with nobody"
            made.append(_plain(f"memory {key}", f"memory of a worker: {titles[key]}", shown))
    return made


def _imports(here: Figures) -> Line:
    made = here.raw.get("import")
    if not made:
        return _plain("import", "import", None)
    rates = sorted(run["rows_per_second"] for run in made["runs"])
    return _plain(
        "import",
        f"import of {made['rows']:,} rows with two addresses each",
        f"{rates[len(rates) // 2]:,} rows/s ({rates[0]:,} to {rates[-1]:,})",
    )


def _plain(key: str, what: str, measured: str | None) -> Line:
    return Line(key, what, "", NOT_MEASURED if measured is None else measured, None)


def drawn(made: Sequence[Line], title: str) -> Table:
    """The lines for people."""
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("goal", justify="right")
    table.add_column("measured", justify="right")
    table.add_column("ok?", justify="center")
    verdicts = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for line in made:
        table.add_row(line.what, line.goal, line.measured.replace("[", "\\["), verdicts[line.ok])
    return table
