"""What was measured, asked for by what it means; None is what was not measured."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bench.results_files import medians, spread
from bench.waits import together


class Rate(NamedTuple):
    """Addresses per second of one contender on lists of one size: the median, and the range."""

    group: str
    contacts: int
    median: float
    least: float
    most: float


class Figures:
    """The figures of one file; those of `make bench` and of `make bench-large` are alike."""

    def __init__(self, figures: dict[str, Any]) -> None:
        self.raw = figures
        self._groups = {group["group"]: group for group in figures.get("rounds", [])}
        self._medians = medians(list(self._groups.values()))

    def groups(self) -> list[tuple[str, int, list[str]]]:
        """Name, contacts and contenders of each group of rounds."""
        return [
            (name, group["contacts"], list(self._medians[name]))
            for name, group in self._groups.items()
        ]

    def rate(self, group: str, contender: str, job: str = "opt_in") -> Rate | None:
        """The contender's rate in this group of rounds."""
        found = self._medians.get(group, {}).get(contender, {}).get(job)
        if found is None:
            return None
        return Rate(group, self._groups[group]["contacts"], **found)

    def largest(self, contender: str, *others: str, job: str = "opt_in") -> list[Rate]:
        """The rates of all of them on the largest list that all of them were measured on."""
        found: list[tuple[int, list[Rate]]] = []
        for name, contacts, keys in self.groups():
            if {contender, *others} <= set(keys):
                rates = [self.rate(name, key, job) for key in (contender, *others)]
                measured = [rate for rate in rates if rate is not None]
                if len(measured) == len(rates):
                    found.append((contacts, measured))
        return max(found, default=(0, []))[1]

    def ratio(self, contender: str, other: str, job: str = "opt_in") -> tuple[float, int] | None:
        """How many times as fast the one is as the other, and the contacts of the list."""
        rates = self.largest(contender, other, job=job)
        return (rates[0].median / rates[1].median, rates[0].contacts) if rates else None

    def of_runs(self, group: str, contender: str, job: str, *path: str) -> dict[str, float] | None:
        """Median and range of a figure that each run has of this job."""
        values = []
        for run in self._groups.get(group, {}).get("runs", []):
            if run["contender"] == contender and job in run:
                value: Any = run[job]
                for name in path:
                    value = value[name]
                values.append(float(value))
        return spread(values) if values else None

    def memory(self, contender: str) -> tuple[float, float] | None:
        """The largest resident set of its workers, and the largest that one shares with nobody, in
        MB; of all runs.
        """
        runs = [
            worker
            for group in self._groups.values()
            for run in group["runs"]
            if run["contender"] == contender
            for worker in run["workers"]
        ]
        if not runs:
            return None
        return max(each["rss_mb"] for each in runs), max(each["uss_mb"] for each in runs)

    def ran_beside(self) -> list[tuple[str, int]]:
        """Beside whose jobs recipients have opted out, and the contacts of the list."""
        passes: Iterable[dict[str, Any]] = self.raw.get("beside") or []
        return list({each["contender"]: each["contacts"] for each in passes}.items())

    def beside(self, contender: str, job: str) -> list[dict[str, Any]]:
        """What was seen while this one's job ran, in each pass."""
        passes: Iterable[dict[str, Any]] = self.raw.get("beside") or []
        return [each[job] for each in passes if each["contender"] == contender]

    def waits_beside(self, contender: str, job: str) -> dict[str, Any] | None:
        """How long recipients waited meanwhile; None where none opted out, since the job was over
        before the first of them arrived.
        """
        made = together([each["opt_outs"] for each in self.beside(contender, job)])
        return made if made["opt_outs"] else None

    def idle(self, *path: str) -> Any:
        """A figure of the system at rest."""
        return self._of_part("idle", path)

    def http(self, *path: str) -> Any:
        """A figure of what was asked over HTTP."""
        return self._of_part("http", path)

    def _of_part(self, part: str, path: Sequence[str]) -> Any:
        value: Any = self.raw.get(part)
        for name in path:
            if value is None:
                return None
            value = value.get(name)
        return value

    def others_percent(self) -> dict[str, float] | None:
        """Median and range of the processor time that other programs took during the runs."""
        values = [
            run[job]["others_percent"]
            for group in self._groups.values()
            for run in group["runs"]
            for job in ("opt_in", "opt_out")
            if job in run
        ]
        return spread(values) if values else None
