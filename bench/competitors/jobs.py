"""The jobs that the harness requests from a driver, and the protocol for it."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

STALLED_SECONDS = 120.0
"""A driver gives up if no chunk was done for this time: a worker has ended or hangs."""


class Job(NamedTuple):
    """One bulk action over all contacts of an account."""

    action: str
    account_id: int
    job_id: int
    fields: list[int]


class JobFailed(Exception):
    """A chunk failed, or the workers have stopped processing chunks."""


def serve(run: Callable[[Job, int], int]) -> int:
    """Run the jobs from standard input until its end. Return the exit status.

    `run` takes the job and the contacts of a chunk. It returns the number of chunks when all are
    committed.
    """
    _say({"ready": True})
    for line in sys.stdin:
        try:
            _say(_timed(run, json.loads(line)))
        except Exception as error:  # noqa: BLE001  # the harness reports it
            _say({"error": f"{type(error).__name__}: {error}"})
            return 1
    return 0


def _timed(run: Callable[[Job, int], int], request: dict[str, Any]) -> dict[str, Any]:
    chunk_size = request.pop("chunk_size")
    began = time.perf_counter()
    chunks = run(Job(**request), chunk_size)
    return {"seconds": time.perf_counter() - began, "chunks": chunks}


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)
