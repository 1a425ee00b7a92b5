"""The goals, and whether they were reached."""

from typing import Any

from bench.figures import Figures, Rate
from bench.http_goals import http_goals
from bench.line import NOT_MEASURED, NOT_YET, Line, judged
from bench.results_files import spread

TEN = 10_000_000
"""The contacts of the list that `make bench-large` has."""

HUNDRED_THOUSAND = 100_000
"""The contacts of the list with which it is compared."""


def goals(here: Figures) -> list[Line]:
    return [
        _times(here, "two_processes", ("sluice_2", "one_statement"), 1.5),
        _times(here, "one_process", ("sluice_1", "one_statement"), 0.8),
        _celery(here, "bulk", "bulk", 5),
        _celery(here, "objects", "object by object", 50),
        _opt_outs(here),
        _lock(here),
        _small_job(here),
        _import(here),
        *http_goals(here),
    ]


def _times(here: Figures, key: str, pair: tuple[str, str], goal: float) -> Line:
    words = {
        "one_statement": "one SQL statement",
        "sluice_1": "1 worker process",
        "sluice_2": "2 worker processes",
    }
    found = here.ratio(*pair)
    on = f", {found[1]:,} contacts" if found else ""
    return judged(
        key,
        f"opt-in, {words[pair[0]]} against {words[pair[1]]}{on}",
        f"≥ {goal:g} x",
        None if found is None else found[0],
        lambda value: f"{value:.2f} x",
        at_least=goal,
    )


def _celery(here: Figures, form: str, words: str, goal: int) -> Line:
    """Against Celery, which is slow, and so has a smaller list. What Sluice does on the same one,
    where beginning and ending take most of its time, is told too.
    """
    slow = here.rate(form, f"celery_{form}")
    fast = here.rate("middle", "sluice_2")
    on = same = ""
    if fast and slow:
        on = f", {fast.contacts:,} contacts against {slow.contacts:,}"
        on_the_same = here.rate(form, "sluice_2")
        if on_the_same:
            same = f" ({on_the_same.median / slow.median:.1f} x on the same {slow.contacts:,})"
    return judged(
        f"celery_{form}",
        f"opt-in, 2 worker processes against Celery + SQLAlchemy, {words}{on}",
        f"≥ {goal} x",
        fast.median / slow.median if fast and slow else None,
        lambda value: f"{value:.1f} x{same}",
        at_least=goal,
    )


def _opt_outs(here: Figures) -> Line:
    idle = here.idle("opt_outs")
    each = [here.waits_beside("sluice_2", job) for job in ("opt_in", "opt_out")]
    p99 = max((waits["ms_p99"] for waits in each if waits), default=None)
    value = None
    shown = ""
    if idle and idle["opt_outs"] and p99 is not None:
        value = p99 / idle["ms_p99"]
        shown = f" ({p99:.0f} ms against {idle['ms_p99']:.0f} ms)"
    return judged(
        "opt_out_beside",
        "single opt-out while a job runs, 99th percentile against idle",
        "≤ 5 x",
        value,
        lambda ratio: f"{ratio:.1f} x{shown}",
        at_most=5,
    )


def _lock(here: Figures) -> Line:
    """The longest of each pass, and of these the median, as of everything that is repeated."""
    passes = zip(here.beside("sluice_2", "opt_in"), here.beside("sluice_2", "opt_out"), strict=True)
    longest = [max(seen["locks"]["held_ms_at_most"] for seen in jobs) for jobs in passes]
    of = spread(longest) if longest else None
    of_passes = f", median and range of {len(longest)} passes" if len(longest) > 1 else ""
    return judged(
        "row_lock",
        f"longest time that rows stay locked, 2 worker processes{of_passes}",
        "≤ 150 ms",
        of["median"] if of else None,
        lambda ms: f"{ms:.0f} ms" + (f" ({of['least']:.0f} to {of['most']:.0f})" if of else ""),
        at_most=150,
    )


def _small_job(here: Figures) -> Line:
    small = here.idle("one_contact")
    return judged(
        "small_job",
        "job of one contact at rest, submit to completed, median",
        "≤ 100 ms",
        small["ms_median"] if small else None,
        lambda ms: f"{ms:.0f} ms ({small['ms_shortest']:.0f} to {small['ms_longest']:.0f})",
        at_most=100,
    )


def _import(here: Figures) -> Line:
    """Against what an administrator would type, measured by turns on the same file."""
    made = here.raw.get("import") or {}
    both = [
        sorted(run["rows_per_second"] for run in made.get(name, ()))
        for name in ("runs", "administrator")
    ]
    value, shown = None, ""
    if all(both):
        ours, theirs = (rates[len(rates) // 2] for rates in both)
        value, shown = ours / theirs, f" ({ours:,} against {theirs:,} rows/s)"
    return judged(
        "import_ratio",
        "import, 2 worker processes against an administrator's script"
        + (f", {made['rows']:,} rows" if made else ""),
        "≥ 1 x",
        value,
        lambda ratio: f"{ratio:.2f} x{shown}",
        at_least=1,
    )


def large_goals(large: dict[str, Any] | None) -> list[Line]:
    """The goals that `make bench-large` measures, each with the date and commit it is from."""
    there = Figures(large["figures"]) if large else None
    when = since(large) if large else ""
    ratio = _large_ratio(there, "opt_in")
    sizes = {name: contacts for name, contacts, _ in there.groups()} if there else {}
    size, small = sizes.get("large", TEN), sizes.get("middle", HUNDRED_THOUSAND)
    memory = there.memory("sluice_2") if there else None
    made = [
        judged(
            "large_rate",
            f"opt-in rate at {size:,} contacts against {small:,}, 2 worker processes",
            "≥ 0.9 x",
            ratio,
            lambda value: f"{value:.2f} x{_rates_of(there)}{when}",
            at_least=0.9,
        ),
        judged(
            "large_memory",
            f"memory of a worker at {size:,} contacts, the largest",
            "< 100 MB",
            memory[0] if memory else None,
            lambda mb: f"{mb:.0f} MB{when}",
            below=100,
        ),
    ]
    pages = (large or {}).get("figures", {}).get("pages") or {}
    for name, words in (
        ("results", "page of results"),
        ("rejections", "page of rejections"),
        ("history", "history of an address"),
    ):
        made.append(_page(name, words, pages.get(name), when))
    return [line if line.measured != NOT_MEASURED else _not_yet(line) for line in made]


def _not_yet(line: Line) -> Line:
    return line._replace(measured=NOT_YET)


def since(large: dict[str, Any]) -> str:
    """What is put after a figure of `make bench-large`: the day and the commit it is from."""
    commit = str(large["machine"].get("git_commit") or "no commit")[:9]
    return f" [{large['taken_at'][:10]}, {commit}]"


def _large_ratio(there: Figures | None, job: str) -> float | None:
    large, small = _large_and_small(there, job)
    return large.median / small.median if large and small else None


def _large_and_small(there: Figures | None, job: str) -> list[Rate | None]:
    groups = ("large", "middle")
    return [there.rate(group, "sluice_2", job) if there else None for group in groups]


def _rates_of(there: Figures | None) -> str:
    """The two rates of one sitting that are compared, and how opt-outs compare."""
    large, small = _large_and_small(there, "opt_in")
    opt_outs = _large_ratio(there, "opt_out")
    shown = f" ({large.median:,.0f} against {small.median:,.0f}" if large and small else ""
    return shown + (f"; opt-outs {opt_outs:.2f} x)" if opt_outs else ")")


def _page(name: str, words: str, page: dict[str, Any] | None, when: str) -> Line:
    key, goal = f"page_{name}", "< 20 ms, no sequential scan"
    if page is None:
        return Line(key, f"{words} among 20,000,000 results", goal, NOT_MEASURED, None)
    scan = "a sequential scan" if page["sequential_scan"] else "no sequential scan"
    return Line(
        key,
        f"{words} among {page['result_rows']:,} results, the slowest of {page['pages']}",
        goal,
        f"{page['ms_longest']:.1f} ms, {scan}{when}",
        page["ms_longest"] < 20 and not page["sequential_scan"],
    )
