"""The log line of a committed chunk."""

from db.chunks import ChunkResult
from db.job_progress import JobToWork
from runtime import events, logs

log = logs.get_logger()


def log_processed(job: JobToWork, done: ChunkResult, *, attempt: int, worker: str) -> None:
    """Log `chunk.processed`. `attempt` is the number of the attempt that succeeded, from 1 on."""
    counts = done.counts
    log.info(
        events.CHUNK_PROCESSED,
        **job.log_fields,
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
