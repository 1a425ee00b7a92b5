"""The two forms of a chunk as Celery tasks, and what a worker process does first."""

from typing import Any

from celery.signals import worker_process_init
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from bench.competitors.celery_sqlalchemy import bulk, objects
from bench.competitors.celery_sqlalchemy.app import Session, app, engine
from bench.competitors.jobs import Job


@worker_process_init.connect
def _connect(**_: Any) -> None:
    """Open a connection for the child process, which must not share the parent's."""
    engine.dispose(close=False)
    with engine.connect() as connection:
        connection.execute(text("select 1"))


# A deadlock is an OperationalError: the chunk was rolled back and is repeated immediately.
@app.task(autoretry_for=(OperationalError,), default_retry_delay=0, max_retries=20)
def bulk_chunk(job: dict[str, Any], chunk_no: int, contact_ids: list[int]) -> None:
    """Do a chunk in one transaction."""
    with Session.begin() as session:
        bulk.work(session, Job(**job), chunk_no, contact_ids)


@app.task
def objects_chunk(job: dict[str, Any], chunk_no: int, contact_ids: list[int]) -> None:
    """Do a chunk with a transaction for each contact."""
    with Session() as session:
        objects.work(session, Job(**job), chunk_no, contact_ids)


FORMS = {"bulk": bulk_chunk, "objects": objects_chunk}
