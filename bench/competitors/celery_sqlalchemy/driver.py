"""Sends jobs to Celery's workers: `python -m bench.competitors.celery_sqlalchemy.driver FORM`."""

import sys
import time
from collections.abc import Iterator

from celery import Task
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult
from sqlalchemy import select

from bench.competitors.celery_sqlalchemy.app import Session, app
from bench.competitors.celery_sqlalchemy.tables import Contact
from bench.competitors.celery_sqlalchemy.tasks import FORMS
from bench.competitors.environment import PROCESSES
from bench.competitors.jobs import STALLED_SECONDS, Job, JobFailed, serve


def main() -> int:
    """Serve the harness with the form named on the command line."""
    task = FORMS[sys.argv[1] if len(sys.argv) > 1 else "bulk"]
    _wait_for_workers()
    return serve(lambda job, chunk_size: _run(task, job, chunk_size))


def _wait_for_workers() -> None:
    deadline = time.monotonic() + STALLED_SECONDS
    while _processes() < PROCESSES:
        if time.monotonic() > deadline:
            raise JobFailed("the workers do not answer")


def _processes() -> int:
    """Return the number of processes of the workers that answer."""
    stats = app.control.inspect(timeout=0.5).stats() or {}
    return sum(len(worker["pool"]["processes"]) for worker in stats.values())


def _run(task: Task, job: Job, chunk_size: int) -> int:
    results = _send(task, job, chunk_size)
    for result in results:
        try:
            # Raises what the task raised.
            result.get(timeout=STALLED_SECONDS)
        except CeleryTimeout:
            raise JobFailed("no chunk was done for too long") from None
    return len(results)


def _send(task: Task, job: Job, chunk_size: int) -> list[AsyncResult]:
    """Send the chunks while the ids are read, over one connection to the broker."""
    with app.producer_or_acquire() as producer:
        return [
            task.apply_async((job._asdict(), chunk_no, contact_ids), producer=producer)
            for chunk_no, contact_ids in enumerate(_chunks(job, chunk_size), start=1)
        ]


def _chunks(job: Job, chunk_size: int) -> Iterator[list[int]]:
    statement = select(Contact.id).where(Contact.account_id == job.account_id).order_by(Contact.id)
    with Session() as session:
        ids = session.scalars(statement, execution_options={"yield_per": chunk_size})
        yield from map(list, ids.partitions())


if __name__ == "__main__":
    sys.exit(main())
