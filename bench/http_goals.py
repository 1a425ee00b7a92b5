"""The goals of what is asked over HTTP, and whether they were reached."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.figures import Figures
from bench.line import NOT_MEASURED, Line, judged
from bench.results_files import spread
from bench.waits import waited


def http_goals(here: Figures) -> list[Line]:
    """All goals are for one web process."""
    return [
        *_opt_outs(here),
        _seconds(
            "http_submit",
            f"a job of {here.http('submitting', 'ids') or 100_000:,} listed ids, until its 202",
            "< 1 s",
            here.http("submitting", "seconds"),
            below=1.0,
        ),
        *(_streamed(here, form, words) for form, words in (("csv", "CSV"), ("ndjson", "NDJSON"))),
        judged(
            "http_memory",
            "memory of the web process over all that, the largest",
            "< 150 MB",
            here.http("web_rss_mb"),
            lambda mb: f"{mb:.0f} MB",
            below=150,
        ),
        *(
            _seconds(
                f"http_plan_{action}",
                f"a plan of {here.http('plans', 'contacts') or 1_000_000:,} contacts over HTTP,"
                f" {words}, until its forecast",
                "< 5 s",
                here.http("plans", action),
                below=5.0,
            )
            for action, words in (
                ("opt_in", "opt-in of both addresses"),
                ("opt_out", "opt-out, spreading"),
            )
        ),
    ]


def http_lines(here: Figures) -> list[Line]:
    """What else is told of it: how long opt-outs waited, and what they and their client cost."""
    by_clock, as_fast = here.http("by_clock"), here.http("as_fast")
    costs = None
    if as_fast:
        web, client = (
            spread([each[name] for each in as_fast["passes"]])["median"]
            for name in ("web_ms", "client_ms")
        )
        costs = f"{web:.2f} ms of the web process, {client:.2f} ms of the client that asks"
    others = here.http("others_percent")
    return [
        Line(key, what, "", measured or NOT_MEASURED, None)
        for key, what, measured in (
            ("http_wait", "single opt-out over HTTP at rest", waited(by_clock)),
            ("http_cost", "processor time of an opt-out over HTTP", costs),
            (
                "http_others",
                "processor time that other programs took meanwhile",
                None if others is None else f"{others:.0f} %",
            ),
        )
    ]


def _opt_outs(here: Figures) -> list[Line]:
    as_fast, by_clock = here.http("as_fast"), here.http("by_clock")
    connections = f", {as_fast['connections']} connections" if as_fast else ""
    rate = f" at {by_clock['rate']:g} a second" if by_clock else ""
    return [
        _rate(
            "http_opt_outs",
            f"single opt-outs over HTTP, each spreading to another address{connections}",
            "≥ 500 a second",
            as_fast and [each["per_second"] for each in as_fast["passes"]],
            lambda value: f"{value:,.0f} a second",
            at_least=500,
        ),
        judged(
            "http_opt_out_p99",
            f"single opt-out over HTTP{rate}, 99th percentile",
            "< 50 ms",
            by_clock["ms_p99"] if by_clock else None,
            lambda ms: f"{ms:.0f} ms",
            below=50,
        ),
    ]


def _streamed(here: Figures, form: str, words: str) -> Line:
    runs = here.http("streams", form)
    return _rate(
        f"http_stream_{form}",
        f"{here.http('streams', 'rows') or 1_000_000:,} results in one stream, {words}",
        "≥ 100,000 rows/s",
        runs and [each["rows_per_second"] for each in runs],
        lambda value: f"{value:,.0f} rows/s",
        at_least=100_000,
    )


def _seconds(key: str, what: str, goal: str, each: Sequence[float] | None, *, below: float) -> Line:
    of = spread(each) if each else None
    return judged(
        key,
        what,
        goal,
        of["median"] if of else None,
        lambda value: (
            f"{value:.2f} s" + (f" ({of['least']:.2f} to {of['most']:.2f})" if of else "")
        ),
        below=below,
    )


def _rate(
    key: str,
    what: str,
    goal: str,
    each: Sequence[float] | None,
    shown: Callable[[Any], str],
    *,
    at_least: float,
) -> Line:
    of = spread(each) if each else None
    return judged(
        key,
        what,
        goal,
        of["median"] if of else None,
        lambda value: shown(value) + (f" ({of['least']:,.0f} to {of['most']:,.0f})" if of else ""),
        at_least=at_least,
    )
