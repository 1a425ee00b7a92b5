"""The table of goals and figures."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from bench.figures import Figures, Rate

NOT_MEASURED = "not measured"
NOT_YET = "not measured yet"


class Line(NamedTuple):
    """One line of the table. `ok` is None where there is no goal, or no figure; `key` names the
    line whatever was measured.
    """

    key: str
    what: str
    goal: str
    measured: str
    ok: bool | None


def lines(
    figures: dict[str, Any], large: dict[str, Any] | None, titles: dict[str, str]
) -> list[Line]:
    """All lines: those with a goal first. `large` is what a file of `make bench-large` says."""
    here = Figures(figures)
    return [*_goals(here), *large_goals(large), *rates(figures, titles), *_others(here, titles)]


def _goals(here: Figures) -> list[Line]:
    return [
        _times(here, "two_processes", ("sluice_2", "one_statement"), 1.5),
        _times(here, "one_process", ("sluice_1", "one_statement"), 0.8),
        _celery(here, "bulk", "bulk", 5),
        _celery(here, "objects", "object by object", 50),
        _opt_outs(here),
        _lock(here),
        _small_job(here),
    ]


def _times(here: Figures, key: str, pair: tuple[str, str], goal: float) -> Line:
    words = {
        "one_statement": "one SQL statement",
        "sluice_1": "1 worker process",
        "sluice_2": "2 worker processes",
    }
    found = here.ratio(*pair)
    on = f", {found[1]:,} contacts" if found else ""
    return _judged(
        key,
        f"opt-in, {words[pair[0]]} against {words[pair[1]]}{on}",
        f"≥ {goal:g} x",
        None if found is None else found[0],
        lambda value: f"{value:.2f} x",
        at_least=goal,
    )


def _celery(here: Figures, form: str, words: str, goal: int) -> Line:
    """Against Celery, which is slow, and so has a smaller list: its rate does not depend on it."""
    slow = here.rate(form, f"celery_{form}") or here.rate("middle", f"celery_{form}")
    fast = here.rate("middle", "sluice_2")
    on = f", {fast.contacts:,} contacts against {slow.contacts:,}" if fast and slow else ""
    return _judged(
        f"celery_{form}",
        f"opt-in, 2 worker processes against Celery + SQLAlchemy, {words}{on}",
        f"≥ {goal} x",
        fast.median / slow.median if fast and slow else None,
        lambda value: f"{value:.1f} x",
        at_least=goal,
    )


def _opt_outs(here: Figures) -> Line:
    idle, beside = here.idle("opt_outs"), here.beside("sluice_2")
    value = None
    shown = ""
    if (
        idle
        and beside
        and idle["opt_outs"]
        and any(beside[job]["opt_outs"]["opt_outs"] for job in ("opt_in", "opt_out"))
    ):
        worst = max((beside[job]["opt_outs"] for job in ("opt_in", "opt_out")), key=_p99)
        value = _p99(worst) / idle["ms_p99"]
        shown = f" ({_p99(worst):.0f} ms against {idle['ms_p99']:.0f} ms)"
    return _judged(
        "opt_out_beside",
        "single opt-out while a job runs, 99th percentile against idle",
        "≤ 5 x",
        value,
        lambda ratio: f"{ratio:.1f} x{shown}",
        at_most=5,
    )


def _p99(opt_outs: dict[str, Any]) -> float:
    # A job that ended before the first opt-out arrived has kept nobody waiting.
    return float(opt_outs.get("ms_p99", 0.0))


def _lock(here: Figures) -> Line:
    beside = here.beside("sluice_2")
    value = beside and max(beside[job]["locks"]["held_ms_at_most"] for job in ("opt_in", "opt_out"))
    return _judged(
        "row_lock",
        "longest time that rows stay locked, 2 worker processes",
        "≤ 150 ms",
        value,
        lambda ms: f"{ms:.0f} ms",
        at_most=150,
    )


def _small_job(here: Figures) -> Line:
    small = here.idle("one_contact")
    return _judged(
        "small_job",
        "job of one contact at rest, submit to completed, median",
        "≤ 100 ms",
        small and small["ms_median"],
        lambda ms: f"{ms:.0f} ms ({small['ms_shortest']:.0f} to {small['ms_longest']:.0f})",
        at_most=100,
    )


def large_goals(large: dict[str, Any] | None) -> list[Line]:
    """The goals that `make bench-large` measures, each with the date and commit it is from."""
    there = Figures(large["figures"]) if large else None
    since = _since(large) if large else ""
    ratio = there and _large_ratio(there)
    memory = there and there.memory("sluice_2")
    made = [
        _judged(
            "large_rate",
            "rate at 10,000,000 contacts against 100,000, 2 worker processes",
            "≥ 0.9 x",
            ratio,
            lambda value: f"{value:.2f} x{since}",
            at_least=0.9,
        ),
        _judged(
            "large_memory",
            "memory of a worker at 10,000,000 contacts, the largest",
            "< 100 MB",
            memory and memory[0],
            lambda mb: f"{mb:.0f} MB{since}",
            below=100,
        ),
    ]
    pages = (large or {}).get("figures", {}).get("pages") or {}
    for name, words in (
        ("results", "page of results"),
        ("rejections", "page of rejections"),
        ("history", "history of an address"),
    ):
        made.append(_page(name, words, pages.get(name), since))
    return [line if line.measured != NOT_MEASURED else _not_yet(line) for line in made]


def _not_yet(line: Line) -> Line:
    return line._replace(measured=NOT_YET)


def _since(large: dict[str, Any]) -> str:
    commit = str(large["machine"].get("git_commit") or "no commit")[:9]
    return f" [{large['taken_at'][:10]}, {commit}]"


def _large_ratio(there: Figures) -> float | None:
    large, small = there.rate("large", "sluice_2"), there.rate("middle", "sluice_2")
    return large.median / small.median if large and small else None


def _page(name: str, words: str, page: dict[str, Any] | None, since: str) -> Line:
    on = f" among {page['result_rows']:,} results" if page else " among 20,000,000 results"
    line = _judged(
        f"page_{name}",
        f"{words}{on}, the slowest of {page['pages']}" if page else f"{words}{on}",
        "< 20 ms, no sequential scan",
        page and page["ms_longest"],
        lambda ms: (
            f"{ms:.1f} ms, {'a' if page['sequential_scan'] else 'no'} sequential scan{since}"
        ),
        below=20,
    )
    if page and page["sequential_scan"]:
        return line._replace(ok=False)
    return line


def _judged(
    key: str,
    what: str,
    goal: str,
    value: float | None,
    shown: Callable[[float], str],
    *,
    at_least: float = float("-inf"),
    at_most: float = float("inf"),
    below: float = float("inf"),
) -> Line:
    if value is None:
        return Line(key, what, goal, NOT_MEASURED, None)
    return Line(key, what, goal, shown(value), at_least <= value <= at_most and value < below)


def rates(figures: dict[str, Any], titles: dict[str, str]) -> list[Line]:
    """The rates of everyone, with their ranges."""
    here = Figures(figures)
    made = []
    for group, contacts, keys in here.groups():
        for job, words in (("opt_in", "opt-in"), ("opt_out", "opt-out, spreading")):
            for key in keys:
                rate = here.rate(group, key, job)
                what = f"{words}, {contacts:,} contacts: {titles[key]}"
                if rate is not None:
                    made.append(_plain(f"rate {group} {job} {key}", what, shown_rate(rate)))
    return made


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
    others = here.others_percent()
    made.append(
        _plain(
            "others",
            "processor time that other programs took during a run, median and range",
            others and f"{others['median']:.0f} % ({others['least']:.0f} to {others['most']:.0f})",
        )
    )
    return made


def _waits(here: Figures, titles: dict[str, str]) -> list[Line]:
    made = [_plain("wait idle", "single opt-out at rest", _wait(here.idle("opt_outs")))]
    for each in here.raw.get("beside") or []:
        title, contacts = titles[each["contender"]], each["contacts"]
        for job, words in (("opt_in", "opt-in"), ("opt_out", "opt-out")):
            seen = each[job]
            what = f"single opt-out during an {words} of {contacts:,} contacts: {title}"
            made.append(_plain(f"wait {each['contender']} {job}", what, _wait(seen["opt_outs"])))
            locks = seen["locks"]
            shown = (
                f"{locks['held_ms_seen']:,.0f} to {locks['held_ms_at_most']:,.0f} ms;"
                f" a probe {locks['probe_ms_longest']:,.0f} ms"
            )
            if seen.get("tries", 1) > 1:
                shown += f"; begun {seen['tries']} times because of deadlocks"
            if "chunk_ms_longest" in seen:
                shown += f"; a chunk {seen['chunk_ms_longest']:,} ms"
            made.append(_plain(f"lock {each['contender']} {job}", "  longest time locked", shown))
    return made


def _wait(opt_outs: dict[str, Any] | None) -> str | None:
    if not opt_outs or not opt_outs["opt_outs"]:
        return None
    shown = (
        f"{opt_outs['ms_median']:,.0f} ms, 99 % in {opt_outs['ms_p99']:,.0f} ms,"
        f" worst {opt_outs['ms_worst']:,.0f} ms (of {opt_outs['opt_outs']:,})"
    )
    return shown + (f", {opt_outs['deferred']:,} deferred" if opt_outs["deferred"] else "")


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
