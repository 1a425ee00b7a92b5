"""`python -m bench.page RESULTS.json`: write `docs/benchmarks.md` from what was measured."""

from pathlib import Path

PAGE = Path("docs/benchmarks.md")
PLOTS = Path("docs/benchmarks")


def write_page(taken, path):
    pass
