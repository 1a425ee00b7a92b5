"""The end of a job, completed or failed, and its log lines."""

import asyncpg

from actions.registry import get_action
from db import address_history, chunks, job_progress
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobToWork
from engine import finalize
from engine.retry_policy import MAX_REJECTED_WITHOUT_SUCCESS, describe_error
from runtime import events, logs
from schemas.errors import error_text
from workers.context import WorkerContext

log = logs.get_logger()


async def complete_job(
    context: WorkerContext, connection: asyncpg.Connection, job: JobToWork
) -> None:
    """Complete the job if no chunk is pending.

    Fail it if that raises anything but a transient error.
    """
    limit = context.settings.role_address_limit
    try:
        totals = await finalize.complete_job(connection, job, role_address_limit=limit)
    except TRANSIENT_ERRORS:
        raise
    except Exception as error:  # noqa: BLE001 - such as counts that do not add up
        await fail_job(context, connection, job, error, describe_error(error))
        return
    if totals is None:
        return
    log.info(events.JOB_COMPLETED, **job.log_fields, **totals._asdict())
    if get_action(job.action).creates_contacts:
        log.info(
            events.IMPORT_COMPLETED,
            **job.log_fields,
            rows=totals.selected // len(job.fields),
            recognized=await address_history.count_recognized_rows(connection, job.key),
            rejected_rows=await address_history.count_rejected_rows(connection, job.key),
        )


async def fail_job(
    context: WorkerContext,
    connection: asyncpg.Connection,
    job: JobToWork,
    error: BaseException,
    text: str,
) -> None:
    """End the job as failed, with `text` as its error, unless it has ended."""
    limit = context.settings.role_address_limit
    if await finalize.fail_job(connection, job, text, role_address_limit=limit):
        log.error(events.JOB_FAILED, **job.log_fields, error=type(error).__name__)


async def fail_job_if_only_rejections(
    context: WorkerContext, connection: asyncpg.Connection, job: JobToWork, error: BaseException
) -> None:
    """End the job as failed if its first items all failed, the last of them with `error`."""
    text = (
        f"The job was stopped: the first {MAX_REJECTED_WITHOUT_SUCCESS} items all failed, the"
        f" last with: {error_text(describe_error(error))}. Nothing was changed. Correct the cause"
        " and submit the job again."
    )
    async with connection.transaction():
        await chunks.lock_job_exclusive(connection, job.id)
        limit = MAX_REJECTED_WITHOUT_SUCCESS
        if await job_progress.has_only_rejections(connection, job.key, limit=limit):
            await fail_job(context, connection, job, error, text)
