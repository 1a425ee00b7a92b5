"""Where a competitor finds its servers, as the harness says in the environment."""

import os
from typing import NamedTuple


class Place(NamedTuple):
    """URLs of the servers, and a word to name queues and keys with."""

    database_url: str
    redis_url: str
    namespace: str


def place() -> Place:
    """The place that DATABASE_URL, REDIS_URL and BENCH_NAMESPACE name."""
    return Place(os.environ["DATABASE_URL"], os.environ["REDIS_URL"], os.environ["BENCH_NAMESPACE"])


def expected_processes() -> int:
    """How many worker processes are to answer before a driver is ready: BENCH_PROCESSES."""
    return int(os.environ.get("BENCH_PROCESSES", "1"))
