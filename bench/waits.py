"""Waits of recipients who opted out: what those of one pass, or of several, come to."""

import statistics
from collections.abc import Sequence
from typing import Any


def summed_up(milliseconds: Sequence[float]) -> dict[str, Any]:
    """All of them, in order, with median, 99th percentile and worst."""
    each = sorted(milliseconds)
    if not each:
        return {"opt_outs": 0, "ms": []}
    return {
        "opt_outs": len(each),
        "ms_median": round(statistics.median(each), 1),
        "ms_p99": each[min(len(each) - 1, int(len(each) * 0.99))],
        "ms_worst": each[-1],
        "ms": each,
    }


def together(passes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The waits of several passes as if they were of one."""
    made = summed_up([ms for each in passes for ms in each["ms"]])
    return made | {"deferred": sum(each["deferred"] for each in passes)}


def waited(opt_outs: dict[str, Any] | None) -> str | None:
    """What waits come to, in words; None where nobody waited."""
    if not opt_outs or not opt_outs["opt_outs"]:
        return None
    shown = (
        f"{opt_outs['ms_median']:,.0f} ms, 99 % in {opt_outs['ms_p99']:,.0f} ms,"
        f" worst {opt_outs['ms_worst']:,.0f} ms (of {opt_outs['opt_outs']:,})"
    )
    return shown + (f", {opt_outs['deferred']:,} deferred" if opt_outs["deferred"] else "")
