"""How the harness starts competitors with workers. Only the standard library is needed.

Workers and driver are started in any order in the project's folder. Their environment has
DATABASE_URL, REDIS_URL, BENCH_NAMESPACE and BENCH_PROCESSES. The driver's line `{"ready": true}`
says that BENCH_PROCESSES worker processes answer.
"""

from collections.abc import Callable
from typing import NamedTuple

Argv = list[str]

_PACKAGE = "bench.competitors"


class Competitor(NamedTuple):
    """`workers` returns the commands that together start this number of worker processes."""

    workers: Callable[[str, int], list[Argv]]
    driver: Callable[[str], Argv]


def _celery_workers(python: str, processes: int) -> list[Argv]:
    """Return one command, whose process forks the worker processes."""
    app = f"{_PACKAGE}.celery_sqlalchemy.tasks"
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    pool = ("--pool", "prefork", "--concurrency", str(processes))
    return [[python, "-m", "celery", "-A", app, "worker", *pool, *quiet]]


def _celery_driver(form: str) -> Callable[[str], Argv]:
    return lambda python: [python, "-m", f"{_PACKAGE}.celery_sqlalchemy.driver", form]


def _procrastinate_workers(python: str, processes: int) -> list[Argv]:
    return [[python, "-m", f"{_PACKAGE}.procrastinate_chunks.worker"] for _ in range(processes)]


def _procrastinate_driver(python: str) -> Argv:
    return [python, "-m", f"{_PACKAGE}.procrastinate_chunks.driver"]


COMPETITORS = {
    "celery_bulk": Competitor(_celery_workers, _celery_driver("bulk")),
    "celery_objects": Competitor(_celery_workers, _celery_driver("objects")),
    "procrastinate_chunks": Competitor(_procrastinate_workers, _procrastinate_driver),
}
