"""A line of the table of goals and figures."""

from collections.abc import Callable
from typing import NamedTuple

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


def judged(
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
    """A line with a goal: `value` is what was measured, and `shown` writes it; None was not."""
    if value is None:
        return Line(key, what, goal, NOT_MEASURED, None)
    return Line(key, what, goal, shown(value), at_least <= value <= at_most and value < below)
