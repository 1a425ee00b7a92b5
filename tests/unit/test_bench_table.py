"""The table and the page of the benchmark say what the file of results says."""

from copy import deepcopy
from typing import Any

import pytest

from bench.course import TITLES
from bench.figures import Figures
from bench.line import NOT_MEASURED, NOT_YET
from bench.page import page
from bench.reading import scans
from bench.table import lines
from bench.waits import summed_up

NAMES = ("wal", "results_table", "results_indexes", "addresses_table", "addresses_indexes")
SIZES = dict.fromkeys(NAMES, 10.0)


def job(rate: int) -> dict[str, Any]:
    return {
        "addresses_per_second": rate,
        "bytes_per_address": SIZES,
        "others_percent": 1.0,
        "plan_seconds": 0.2,
    }


def group(name: str, contacts: int, rates: dict[str, list[int]]) -> dict[str, Any]:
    runs = [
        {
            "contender": key,
            "round": number,
            "opt_in": job(rate),
            "opt_out": job(rate // 2),
            "workers": [{"rss_mb": 60.0, "uss_mb": 30.0}],
        }
        for key, measured in rates.items()
        for number, rate in enumerate(measured, 1)
    ]
    return {"group": name, "contacts": contacts, "runs": runs}


def waits(p99: float) -> dict[str, Any]:
    """All but the shortest and the longest last as long as that."""
    return summed_up([4.0, *[p99] * 99, 99.0]) | {"deferred": 0}


def beside(contender: str, held: float) -> dict[str, Any]:
    def seen(held: float) -> dict[str, Any]:
        locks = {"held_ms_seen": held - 9, "held_ms_at_most": held, "probe_ms_longest": 5.0}
        return {"opt_outs": waits(40.0), "locks": locks, "tries": 1}

    jobs = {"opt_in": seen(held - 1), "opt_out": seen(held)}
    return {"contender": contender, "contacts": 1_000_000} | jobs


FIGURES: dict[str, Any] = {
    "rounds": [
        group(
            "large",
            1_000_000,
            {
                "one_statement": [100_000, 90_000, 120_000],
                "sluice_1": [70_000],
                "sluice_2": [160_000],
            },
        ),
        group("middle", 100_000, {"sluice_2": [150_000], "procrastinate_chunks": [75_000]}),
        group("bulk", 30_000, {"sluice_2": [100_000], "celery_bulk": [20_000]}),
        group("objects", 5_000, {"celery_objects": [2_000]}),
    ],
    "idle": {
        "opt_outs": waits(10.0),
        "redis": {"commands_per_second": 50.0},
        "one_contact": {"ms_median": 20.0, "ms_shortest": 10.0, "ms_longest": 30.0},
    },
    "beside": [
        beside("one_statement", 20_000.0),
        *(beside("sluice_2", held) for held in (150.0, 70.0, 900.0)),
    ],
    "http": {
        "as_fast": {
            "connections": 16,
            "passes": [
                {"per_second": rate, "web_ms": 1.25, "client_ms": 0.15} for rate in (480, 520, 700)
            ],
        },
        "by_clock": waits(50.0) | {"rate": 100.0},
        "plans": {"contacts": 1_000_000, "opt_in": [2.0, 9.0, 3.0], "opt_out": [5.0]},
        "submitting": {"ids": 100_000, "seconds": [0.25, 0.75, 0.5]},
        "streams": {
            "rows": 1_000_000,
            "csv": [{"rows_per_second": n} for n in (90_000, 160_000, 150_000)],
            "ndjson": [{"rows_per_second": 99_999}],
        },
        "web_rss_mb": 90.0,
        "others_percent": 3.0,
    },
    "import": {
        "rows": 1000,
        "runs": [{"rows_per_second": n} for n in (1, 3, 2)],
        "administrator": [{"rows_per_second": n} for n in (1, 1, 9)],
    },
}
LARGE: dict[str, Any] = {
    "taken_at": "2024-05-06T07:08:09+00:00",
    "machine": {"git_commit": "0123456789abcdef"},
    "figures": {
        "rounds": [
            group("middle", 100_000, {"sluice_2": [150_000]}),
            group("large", 10_000_000, {"sluice_2": [132_000]}),
        ],
        "pages": {
            name: {
                "result_rows": 20_000_000,
                "pages": 20,
                "ms_longest": 1.0,
                "sequential_scan": name == "history",
            }
            for name in ("results", "rejections", "history")
        },
    },
}


def test_goals_are_judged_by_medians() -> None:
    """Each goal against its figure; of the statement's three runs the middle one counts."""
    made = {line.key: line for line in lines(FIGURES, LARGE, TITLES)}
    assert {
        key: (line.measured.split(" [")[0], line.ok) for key, line in made.items() if line.goal
    } == {
        "two_processes": ("1.60 x", True),
        "one_process": ("0.70 x", False),
        "celery_bulk": ("7.5 x (5.0 x on the same 30,000)", True),
        "celery_objects": ("75.0 x", True),
        "opt_out_beside": ("4.0 x (40 ms against 10 ms)", True),
        "row_lock": ("150 ms (70 to 900)", True),
        "small_job": ("20 ms (10 to 30)", True),
        "import_ratio": ("2.00 x (2 against 1 rows/s)", True),
        "http_opt_outs": ("520 a second (480 to 700)", True),
        "http_opt_out_p99": ("50 ms", False),
        "http_submit": ("0.50 s (0.25 to 0.75)", True),
        "http_stream_csv": ("150,000 rows/s (90,000 to 160,000)", True),
        "http_stream_ndjson": ("99,999 rows/s (99,999 to 99,999)", False),
        "http_memory": ("90 MB", True),
        "http_plan_opt_in": ("3.00 s (2.00 to 9.00)", True),
        "http_plan_opt_out": ("5.00 s (5.00 to 5.00)", False),
        "large_rate": ("0.88 x (132,000 against 150,000; opt-outs 0.88 x)", False),
        "large_memory": ("60 MB", True),
        "page_results": ("1.0 ms, no sequential scan", True),
        "page_rejections": ("1.0 ms, no sequential scan", True),
        "page_history": ("1.0 ms, a sequential scan", False),
    }
    assert made["large_rate"].measured.endswith("[2024-05-06, 012345678]")
    assert (
        made["rate 1000000 opt_in one_statement"].measured
        == "100,000 addresses/s (90,000 to 120,000)"
    )


def test_rates_of_the_large_lists_stand_beside_the_others() -> None:
    """What only `make bench-large` has measured is shown with its day and commit, largest list
    first; what has been measured now is shown as it is now.
    """
    made = {line.key: line.measured for line in lines(FIGURES, LARGE, TITLES)}
    keys = [key for key in made if key.startswith("rate ")]
    assert keys[:2] == ["rate 10000000 opt_in sluice_2", "rate 10000000 opt_out sluice_2"]
    assert made[keys[0]] == "132,000 addresses/s (132,000 to 132,000) [2024-05-06, 012345678]"
    assert made["rate 100000 opt_in sluice_2"] == "150,000 addresses/s (150,000 to 150,000)"


def test_what_was_not_measured_is_said() -> None:
    """All goals stand in the table whatever was measured, and none of them counts as reached."""
    made = lines({"rounds": []}, None, TITLES)
    goals = [line for line in made if line.goal]
    assert len(goals) == 21
    assert {line.measured for line in goals} == {NOT_MEASURED, NOT_YET}
    assert {line.ok for line in goals} == {None}


def test_the_page_has_the_tables_figures() -> None:
    """Each line of the table stands on the page, and missed goals are named at its top."""
    taken = _taken()
    text = page(taken)
    for line in taken["table"]:
        assert line["what"].strip() in text
        assert line["measured"].replace("[", "(").replace("]", ")") in text
    assert "Of 21 goals 15 were reached; missed: opt-in, 1 worker process" in text
    assert "$" not in text


def test_the_same_results_give_the_same_page() -> None:
    """Nothing but the file of results is on it."""
    assert page(_taken()) == page(deepcopy(_taken()))


def test_ratios_are_taken_on_the_largest_common_list() -> None:
    """Two contenders are compared where both were measured."""
    here = Figures(FIGURES)
    assert here.ratio("sluice_2", "one_statement") == (1.6, 1_000_000)
    assert here.ratio("sluice_2", "procrastinate_chunks") == (2.0, 100_000)
    assert here.ratio("sluice_2", "sluice_4") is None


@pytest.mark.parametrize(("loops", "found"), [(1, [("jobs", 12)]), (0, [])])
def test_a_scan_that_was_never_begun_does_not_count(loops: int, found: list[Any]) -> None:
    """Only what was read is a scan, and all rows that it saw count."""
    scan = {
        "Node Type": "Seq Scan",
        "Relation Name": "jobs",
        "Actual Loops": loops,
        "Actual Rows": 2.0,
        "Rows Removed by Filter": 10,
    }
    assert list(scans({"Node Type": "Nested Loop", "Actual Loops": 1, "Plans": [scan]})) == found


def _taken() -> dict[str, Any]:
    return {
        "taken_at": "2024-05-06T07:08:09+00:00",
        "options": {"rounds": 5, "passes": 3, "bulk": 30_000, "objects": 2_000}
        | {"web_opt_outs": 2_000, "listed": 100_000},
        "machine": {
            "cpu": "a processor",
            "cores": 2,
            "memory_mb": 4096,
            "kernel": "Linux",
            "python": "3.11",
            "postgres": "18",
            "redis": "valkey 9",
            "git_commit": "0123456789abcdef",
            "git_changes": False,
            "libraries": {"asyncpg": "0.30"},
            "postgres_settings": {"fsync": "on", "synchronous_commit": "on"},
        },
        "settings": {"worker_threads": 2, "chunk_size": 2500},
        "parts": {"all": 120.0},
        "figures": FIGURES,
        "table": [line._asdict() for line in lines(FIGURES, LARGE, TITLES)],
    }
