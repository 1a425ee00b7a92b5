"""The goals, tables and page of the benchmark agree with the samples."""

from pathlib import Path

import pytest

from bench.goals import Goal, judge_all, read_goals
from bench.report import PAGE, tables, write_page
from bench.samples import Samples, Session
from bench.session import Sizes

RATE = "addresses a second"
SIZES = Sizes()._asdict()
NEW = Session(
    "2024-06-07T08:09:10+00:00",
    {"commit": "fedcba9876543210", "processors": "2 (a processor)"},
    SIZES,
    Samples(
        {
            f"{RATE}/large/opt_in/one_statement": [100_000, 90_000, 120_000],
            f"{RATE}/large/opt_in/sluice_2": [160_000],
            f"{RATE}/large/opt_in/sluice_1": [70_000],
            "longest of both jobs, ms: row lock/sluice_2": [70, 150, 900],
            "longest of both jobs, ms: row lock/one_statement": [30_000],
            "single opt-outs, ms: median/at rest": [4.0],
            "single opt-outs, ms: worst/at rest": [14.0],
            "memory of a process, MB/web process": [90, 160],
        }
    ),
)
LARGE = Session(
    "2024-05-06T07:08:09+00:00",
    {"commit": "0123456789abcdef"},
    SIZES,
    Samples(
        {
            f"{RATE}/middle/opt_in/sluice_2": [150_000],
            f"{RATE}/huge/opt_in/sluice_2": [132_000],
            f"{RATE}/large/opt_in/sluice_2": [1],
        }
    ),
)


def test_goals_are_judged_by_medians() -> None:
    """Each goal is compared with the median of its values, or with the largest one for memory."""
    judged = {what: (measured, ok) for what, _, measured, ok in judge_all(NEW, LARGE)}
    assert {what: each for what, each in judged.items() if each[1]} == {
        "opt-in, large list: 2 worker processes to one SQL statement": (
            "1.6 = 160,000 / 100,000 (90,000 to 120,000)",
            "yes",
        ),
        "opt-in, large list: 1 worker process to one SQL statement": (
            "0.7 = 70,000 / 100,000 (90,000 to 120,000)",
            "no",
        ),
        "longest time that a row is locked: 2 worker processes to one SQL statement": (
            "1/200 = 150 (70 to 900) / 30,000",
            "no",
        ),
        "opt-in, 2 worker processes: huge list to middle list": (
            "0.88 = 132,000 / 150,000 [2024-05-06, 012345678]",
            "no",
        ),
        "memory of the web process, the largest, MB": ("160", "no"),
    }


@pytest.mark.parametrize(("value", "verdict"), [(99, "yes"), (100, "yes"), (101, "no")])
def test_a_value_equal_to_its_bound_reaches_the_goal(value: float, verdict: str) -> None:
    """A ratio equal to its bound reaches the goal."""
    judged = Goal("what", "sample", "reference", at_most=1 / 300).judge(
        Samples({"sample": [value], "reference": [30_000]})
    )
    assert judged is not None
    assert judged[1] == verdict


def test_every_goal_has_one_bound() -> None:
    """Every goal has one bound, and each goal that is not about memory has a reference."""
    for goal in read_goals():
        assert (goal.at_least > float("-inf")) != (goal.at_most < float("inf")), goal
        assert bool(goal.reference) != goal.sample.startswith("memory"), goal


def test_unmeasured_goals_are_listed() -> None:
    """The table lists every goal, including unmeasured ones, which do not count as reached."""
    judged = list(judge_all(NEW._replace(samples=Samples()), None))
    assert len(judged) == len(read_goals())
    assert {(measured, ok) for _, _, measured, ok in judged} == {("not measured", "")}


def test_figures_of_bench_large_show_their_origin() -> None:
    """Figures that only `make bench-large` measured show its day and commit; figures of this run
    show neither.
    """
    by_title = {table.title: table for table in tables(NEW, LARGE)}
    rows = dict(by_title["Addresses a second"].rows)
    old = "[2024-05-06, 012345678]"
    assert rows[f"10,000,000 contacts: opt-in: Sluice, 2 processes {old}"] == "132,000"
    assert rows["1,000,000 contacts: opt-in: Sluice, 2 processes"] == "160,000"
    assert f"1,000,000 contacts: opt-in: Sluice, 2 processes {old}" not in rows
    assert by_title["Single opt-outs, ms"].columns == ("what", "median", "worst")
    assert by_title["Single opt-outs, ms"].rows == [("at rest", "4", "14")]


def test_the_page_has_every_figure_of_the_tables(tmp_path: Path) -> None:
    """Each figure is on the page, and missed goals are named at its top."""
    path = tmp_path / "page.md"
    write_page(NEW, LARGE, path)
    text = path.read_text()
    for table in tables(NEW, LARGE):
        for row in table.rows:
            assert f"| {' | '.join(row)} |".replace("[", "(").replace("]", ")") in text
    assert f"Of {len(read_goals())} goals 1 were reached. Missed: opt-in, large list" in text
    assert "2 (a processor)" in text
    assert "$" not in text


def test_a_session_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A session read from its file equals the one written, so the page can be made
    from the file.
    """
    NEW.keep("bench", tmp_path)
    assert Session.read("bench", tmp_path) == NEW
    assert Session.read("large", tmp_path) is None


def test_waits_are_summed_up() -> None:
    """A percentile of waits is at least as long as the stated share of them."""
    samples = Samples()
    assert samples.add_waits("here", [4.0, *[40.0] * 98, 99.0]) == 99.0
    assert samples.add_waits("here", [4.0, *[40.0] * 99, 99.0]) == 40.0
    assert samples.add_waits("nowhere", []) == 0.0
    assert samples["single opt-outs, ms: 99th percentile/here"] == [99.0, 40.0]
    assert samples["single opt-outs, ms: median/here"] == [40.0, 40.0]
    assert not [name for name in samples if name.endswith("nowhere")]


def test_the_published_page_shows_the_newest_results(tmp_path: Path) -> None:
    """The page equals the output of `python -m bench.report` for the newest results."""
    newest = Session.read("bench")
    assert newest is not None
    write_page(newest, Session.read("large"), tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == PAGE.read_text()
