"""The goals of `goals.toml`, and whether a session has reached them."""

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.samples import Samples, Session, number, shown


class Goal(NamedTuple):
    """A bound for a sample, or for its ratio to a reference."""

    what: str
    sample: str
    reference: str = ""
    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def bound(self) -> str:
        """Return the bound in words."""
        if self.at_least > -math.inf:
            return f"at least {_ratio(self.at_least)}"
        return f"at most {_ratio(self.at_most)}"

    def judge(self, samples: Samples) -> tuple[str, str] | None:
        """Return the measured value with `yes` or `no`, or None without figures."""
        sample, reference = samples.summary(self.sample), samples.summary(self.reference)
        if sample is None or (self.reference and reference is None):
            return None
        value, text = sample.high, number(sample.high)
        if reference:
            value = sample.median / reference.median if reference.median else math.inf
            text = f"{_ratio(value)} = {shown(sample)} / {shown(reference)}"
        return text, "yes" if self.at_least <= value <= self.at_most else "no"


def _ratio(value: float) -> str:
    return f"1/{1 / value:,.0f}" if 0 < value < 0.05 else number(value)


def read_goals() -> list[Goal]:
    """Return the goals in the file's order."""
    text = Path(__file__).with_name("goals.toml").read_text(encoding="utf-8")
    return [Goal(**fields) for fields in tomllib.loads(text)["goal"]]


def judge_all(session: Session, large: Session | None) -> Iterator[tuple[str, str, str, str]]:
    """Return each goal with its subject, its bound, the measured value, and `yes`, `no` or nothing.

    Values that only `large` has are followed by its day and commit.
    """
    for goal in read_goals():
        found, origin = goal.judge(session.samples), ""
        if found is None and large is not None:
            found, origin = goal.judge(large.samples), f" [{large.origin}]"
        measured, verdict = found or ("not measured", "")
        yield goal.what, goal.bound, measured + (origin if found else ""), verdict
