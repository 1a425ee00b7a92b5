"""`python -m bench.plots RESULTS.json OUT_FOLDER`: the plots, as SVG.

What RESULTS.json does not have of large lists is taken from the newest file of `make bench-large`.
This runs in the environment of the competitors, which has matplotlib, and imports nothing of
Sluice. The same files of results give the same plots, byte for byte.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.figures import Figures
from bench.results_files import newest_large

RATES, LATENCY, SIZES = "rates.svg", "latency.svg", "sizes.svg"

_COLOURS = {"opt_in": "#2f6690", "opt_out": "#d98324"}
_WORDS = {"opt_in": "opt-in", "opt_out": "opt-out, spreading"}


def main(arguments: list[str]) -> int:
    """Draw all plots; gives the exit status."""
    source, folder = Path(arguments[0]), Path(arguments[1])
    taken = json.loads(source.read_text(encoding="utf-8"))
    large = newest_large()
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"svg.hashsalt": "sluice", "font.size": 9, "axes.axisbelow": True})
    for name, figure in (
        (RATES, rates(taken)),
        (LATENCY, latency(taken)),
        (SIZES, sizes(taken, large)),
    ):
        figure.savefig(folder / name, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    return 0


def rates(taken: dict[str, Any]) -> Any:
    """Bars of addresses per second, for each list, with ranges."""
    here, titles = Figures(taken["figures"]), taken["titles"]
    groups = here.groups()
    heights = [max(1, len(keys)) for _, _, keys in groups]
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(8, 1.1 * len(groups) + 0.5 * sum(heights)),
        height_ratios=heights,
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for axis, (group, contacts, keys) in zip(axes[:, 0], groups, strict=True):
        _bars(axis, here, group, keys)
        axis.set_title(f"list of {contacts:,} contacts", loc="left")
        axis.set_yticks(range(len(keys)), [titles[key] for key in keys])
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes[-1, 0].set_xlabel("addresses per second: the median, and the range of all rounds")
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _bars(axis: Axes, here: Figures, group: str, keys: list[str]) -> None:
    for shift, job in ((-0.2, "opt_in"), (0.2, "opt_out")):
        each = [(place, here.rate(group, key, job)) for place, key in enumerate(keys)]
        found = [(place, rate) for place, rate in each if rate is not None]
        if not found:
            continue
        ranges = [
            [rate.median - rate.least for _, rate in found],
            [rate.most - rate.median for _, rate in found],
        ]
        axis.barh(
            [place + shift for place, _ in found],
            [rate.median for _, rate in found],
            height=0.38,
            xerr=ranges,
            color=_COLOURS[job],
            label=_WORDS[job],
            error_kw={"elinewidth": 1, "capsize": 2},
        )


def latency(taken: dict[str, Any]) -> Any:
    """Median, 99th percentile and worst of single opt-outs, at rest and during each job."""
    here, titles = Figures(taken["figures"]), taken["titles"]
    rows = [("at rest", here.idle("opt_outs"))]
    for key, _ in here.ran_beside():
        rows += [
            (f"{titles[key]}\n{_WORDS[job]}", here.waits_beside(key, job))
            for job in ("opt_in", "opt_out")
        ]
    shown = [(label, waits) for label, waits in rows if waits and waits["opt_outs"]]
    figure, axis = plt.subplots(figsize=(8, 1 + 0.5 * len(shown)), layout="constrained")
    for key, words, marker, colour in (
        ("ms_median", "median", "o", "#2f6690"),
        ("ms_p99", "99th percentile", "D", "#d98324"),
        ("ms_worst", "worst", "x", "#9b2226"),
    ):
        axis.scatter(
            [waits[key] for _, waits in shown],
            range(len(shown)),
            label=words,
            marker=marker,
            color=colour,
        )
    axis.set_yticks(range(len(shown)), [label for label, _ in shown])
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_xlabel("milliseconds from the opt-out's arrival to its answer")
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def sizes(taken: dict[str, Any], large: dict[str, Any] | None) -> Any:
    """Rates of opt-ins against the size of the list, for those measured on several."""
    titles = taken["titles"]
    points: dict[str, dict[int, tuple[float, float, float]]] = {}
    for file in (large, taken):
        here = Figures(file["figures"]) if file else None
        for group, contacts, keys in here.groups() if here else []:
            for key in keys:
                rate = here.rate(group, key) if here else None
                if rate is not None:
                    points.setdefault(key, {})[contacts] = rate[2:]
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    for key, title in titles.items():
        found = sorted(points.get(key, {}).items())
        if len(found) < 2:
            continue
        medians = [rate[0] for _, rate in found]
        ranges = [
            [rate[0] - rate[1] for _, rate in found],
            [rate[2] - rate[0] for _, rate in found],
        ]
        where = [contacts for contacts, _ in found]
        axis.errorbar(where, medians, yerr=ranges, marker="o", capsize=3, label=title)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_xlabel("contacts in the list, two addresses each")
    axis.set_ylabel("addresses per second, opt-in")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
