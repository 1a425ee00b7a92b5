"""The files that keep what was measured."""

import json
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")

LARGE = "large"
"""What the files of `make bench-large` are called."""


def keep(taken: dict[str, Any], name: str, folder: Path = RESULTS) -> Path:
    """Write what was measured to a file of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{name}.json"
    text = json.dumps(taken, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def newest_large(folder: Path = RESULTS) -> dict[str, Any] | None:
    """What the newest file of `make bench-large` says; the names begin with the time."""
    files = sorted(folder.glob(f"*-{LARGE}.json"))
    if not files:
        return None
    taken: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return taken


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def medians(groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Addresses per second by group of rounds, contender and job: median and range."""
    made: dict[str, Any] = {}
    for group in groups:
        by_contender = made.setdefault(group["group"], {})
        for key in dict.fromkeys(run["contender"] for run in group["runs"]):
            runs = [run for run in group["runs"] if run["contender"] == key]
            by_contender[key] = {
                job: spread([run[job]["addresses_per_second"] for run in runs])
                for job in ("opt_in", "opt_out")
                if all(job in run for run in runs)
            }
    return made
