"""Measured values by name, and the file that keeps them.

A name says what was measured and for what: `addresses a second/large/opt_in/sluice_2`. Figures of
one table in the report have the same text before a colon.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

RESULTS = Path(__file__).with_name("results")


class Summary(NamedTuple):
    """Median and range of one name's values."""

    median: float
    low: float
    high: float


def shown(summary: Summary) -> str:
    """Write the median, and the range where there is one."""
    text = number(summary.median)
    if summary.low < summary.high:
        text += f" ({number(summary.low)} to {number(summary.high)})"
    return text


def number(value: float) -> str:
    """Write a number with the digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


class Samples(dict[str, list[float]]):
    """All values of a session; several values of a name come from different rounds or passes."""

    def add(self, name: str, *values: float) -> None:
        """Add values to those of the name."""
        self.setdefault(name, []).extend(values)

    def add_waits(self, subject: str, waits: Sequence[float]) -> float:
        """Add median, 99th percentile and maximum of waits in ms. Return the percentile."""
        if not waits:
            return 0.0
        p99 = sorted(waits)[min(len(waits) - 1, int(len(waits) * 0.99))]
        self.add(f"single opt-outs, ms: median/{subject}", round(statistics.median(waits), 1))
        self.add(f"single opt-outs, ms: 99th percentile/{subject}", p99)
        self.add(f"single opt-outs, ms: worst/{subject}", max(waits))
        return p99

    def summary(self, name: str) -> Summary | None:
        """Return the median and range, or None if nothing was measured."""
        values = self.get(name)
        return Summary(statistics.median(values), min(values), max(values)) if values else None


class Session(NamedTuple):
    """A run of the benchmark: its time, machine, sizes and samples."""

    taken_at: str
    machine: dict[str, Any]
    sizes: dict[str, Any]
    samples: Samples

    @property
    def origin(self) -> str:
        """Return the day and the commit of the figures."""
        return f"{self.taken_at[:10]}, {str(self.machine.get('commit') or 'no commit')[:9]}"

    def keep(self, name: str, folder: Path = RESULTS) -> Path:
        """Write the file of this name, which keeps only the newest figures."""
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.json"
        text = json.dumps(self._asdict(), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, name: str, folder: Path = RESULTS) -> Self | None:
        """Return the session in the file of this name, or None if there is none."""
        path = folder / f"{name}.json"
        if not path.exists():
            return None
        fields = json.loads(path.read_text(encoding="utf-8"))
        return cls(**fields | {"samples": Samples(fields["samples"])})
