"""The canonical line of the work: what became of a chunk that was committed."""

from db.job_progress import JobToWork
from engine.chunk_runner import ChunkResult
from runtime import events, logs

log = logs.get_logger()


def log_processed(job: JobToWork, done: ChunkResult, *, attempt: int, worker: str) -> None:
    """Write `chunk.processed`; `attempt` says which one succeeded, from 1 on."""
    counts = done.counts
    log.info(
        events.CHUNK_PROCESSED,
        job=job.id,
        account=job.account_id,
        action=job.action,
        chunk=done.chunk_no,
        applied=counts.applied,
        unchanged=counts.unchanged,
        rejected=counts.rejected,
        reasons={
            key.partition(":")[2]: rows
            for key, rows in counts.reasons.items()
            if key.startswith("rejected:")
        },
        empty=counts.empty,
        propagated=counts.propagated,
        duration_ms=done.duration_ms,
        attempt=attempt,
        worker=worker,
    )
