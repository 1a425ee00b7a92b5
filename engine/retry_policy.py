"""The policy for a chunk that failed: retry it, then split it, and at last reject one item.

`_next_step` decides, and `FailureHandler` acts, in a transaction of its own after that of the chunk
was rolled back. Transient errors (`db/errors.py`) do not count as attempts and do not come here:
`_handle_interruption` in `workers/slices.py` handles them. An immediate opt-out does not come here
either. If it cannot be applied, it is stored as a job for workers
(`producers/immediate_opt_out.py`), and this policy applies to that job.

**A chunk that raises an error** gets MAX_ATTEMPTS attempts, 3. After the first it waits
RETRY_SECONDS (`runtime/settings.py`, by default 1 s), after each further one 4 times as long: 1 s,
then 4 s. The third failure splits the chunk, and its halves begin without attempts. A chunk of one
item is rejected instead, with `internal_error`, and the job goes on. If 100 items were rejected
before any chunk succeeded (MAX_REJECTED_WITHOUT_SUCCESS), `workers/job_end.py` fails the job.

**A chunk whose worker process was lost** becomes a suspect. A worker is lost if its lane was silent
for STALLED_AFTER_SECONDS (by default 5 s) and nothing holds the lane's lock. The sweeper then gives
the lane a new token and makes its chunk a suspect (`requeue_stalled_lanes` in `db/sql/lanes.sql`).
If it is not known which chunk the worker had, the lane's next slice treats every chunk as a suspect
(`is_suspect` of `ActiveLane`, set in `workers/slices.py`).

A suspect is worked on alone in its process, so that another loss points to this chunk. Its attempt
is counted before it is made, so that it counts even if the process dies. A suspect that loses one
more worker (MAX_LOSSES_OF_SUSPECT) is split, and its halves are suspects too. A suspect of one item
is rejected when it has lost two more workers (MAX_LOSSES_OF_ONE_ITEM). Either happens at the next
attempt, which raises WorkersLost before it reads an address. If a suspect raises another error, the
rule of 3 attempts holds, and its losses count as attempts.
"""

from typing import Literal, NamedTuple, TypeAlias

import asyncpg

from db import chunks, results
from db.chunks import ChunkCounts, ChunkResult, ClaimedChunk
from db.job_progress import JobToWork
from engine.sources import source_of
from runtime import events, logs
from schemas.errors import SluiceError
from schemas.outcomes import Cause, Outcome, Reason
from schemas.results import ResultKind

log = logs.get_logger()

MAX_ATTEMPTS = 3
"""How many times a chunk is attempted before it is split."""

MAX_LOSSES_OF_SUSPECT = 1
"""How many more worker processes a suspect chunk loses before it is split. The loss that made it a
suspect does not count. If a worker was lost by chance, the split does no harm."""

MAX_LOSSES_OF_ONE_ITEM = 2
"""How many more worker processes a suspect chunk of one item loses before the item is rejected.
The loss that made it a suspect does not count. An item that is not the cause is rejected only if
three workers are lost by chance, each while it works on this item."""

MAX_REJECTED_WITHOUT_SUCCESS = 100
"""How many items may be rejected one by one before any chunk is done. Then the job fails: the cause
is not in the items."""

MAX_ERROR_CHARACTERS = 2000

_NextStep: TypeAlias = Literal["retry", "split", "rejected"]


def _next_step(chunk: ClaimedChunk, attempts: int, error: BaseException) -> _NextStep:
    """Return what to do with a chunk whose last attempt, of this many, raised the error."""
    if attempts < MAX_ATTEMPTS and not isinstance(error, WorkersLost):
        return "retry"
    return "split" if len(chunk.item_ids) > 1 else "rejected"


class WorkersLost(SluiceError):
    """The chunk seems to end the processes that work on it."""

    def __init__(self, *, lost: int) -> None:
        count = "1 worker was" if lost == 1 else f"{lost} workers were"
        super().__init__(f"{count} lost while this was all that they worked on")


def require_suspect_attempts_left(chunk: ClaimedChunk) -> None:
    """Raise WorkersLost if the chunk has lost as many workers as a suspect chunk may."""
    limit = MAX_LOSSES_OF_SUSPECT if len(chunk.item_ids) > 1 else MAX_LOSSES_OF_ONE_ITEM
    if (chunk.suspect_attempts or 0) > limit:
        raise WorkersLost(lost=limit)


class _Failure(NamedTuple):
    """A chunk that failed, its number of attempts, and the text of its last error."""

    chunk_no: int
    attempts: int
    error: str


class FailureHandler(NamedTuple):
    """Handles the failed chunks of one job."""

    job: JobToWork
    worker: str
    retry_seconds: float

    async def handle(
        self,
        connection: asyncpg.Connection,
        chunk: ClaimedChunk,
        error: BaseException,
        *,
        is_counted: bool,
    ) -> ChunkResult | None:
        """Postpone, split or reject; return the done chunk if its item was rejected.

        `is_counted` says that the attempt was counted before it was made.
        """
        async with connection.transaction():
            await chunks.lock_job_shared(connection, self.job.id)
            locked = await chunks.lock_failed_chunk(connection, self.job.key, chunk.chunk_no)
            if locked is None:
                return None
            attempts = max(chunk.attempts + (not is_counted), locked.attempts)
            step = _next_step(locked, attempts, error)
            delay_seconds = self.retry_seconds * 4.0 ** (attempts - 1)
            log.warning(
                events.CHUNK_FAILED,
                **self.job.log_fields,
                chunk=chunk.chunk_no,
                attempt=attempts,
                error=type(error).__name__,
                location=logs.error_location(error),
                next_step=step,
                retry_in_seconds=delay_seconds if step == "retry" else None,
            )
            failure = _Failure(chunk.chunk_no, attempts, describe_error(error))
            if step == "retry":
                await chunks.postpone_chunk(
                    connection,
                    self.job.key,
                    **failure._asdict(),
                    delay_seconds=delay_seconds,
                    counted=is_counted,
                )
            elif step == "split":
                await chunks.split_chunk(connection, self.job.key, **failure._asdict())
                items = len(locked.item_ids)
                log.warning(
                    events.CHUNK_SPLIT, **self.job.log_fields, chunk=chunk.chunk_no, items=items
                )
            else:
                return await self._reject(connection, failure, *locked.item_ids)
            return None

    async def _reject(
        self, connection: asyncpg.Connection, failure: _Failure, item_id: int
    ) -> ChunkResult:
        """Reject the addresses of the one item that failed, so that the job goes on."""
        addresses = await source_of(self.job).reject_item(
            connection, self.job, item_id, failure.error
        )
        counts = ChunkCounts(
            applied=0,
            unchanged=0,
            rejected=len(addresses),
            empty=len(self.job.fields) - len(addresses),
            propagated=0,
            reasons={f"{Outcome.REJECTED}:{Reason.INTERNAL_ERROR}": len(addresses)},
        )
        kind = ResultKind(Outcome.REJECTED, Reason.INTERNAL_ERROR, None, None, Cause.DIRECT)
        rows = [(item_id, field, address, None) for field, address in sorted(addresses.items())]
        await results.insert_results(
            connection,
            self.job.key,
            chunk_no=failure.chunk_no,
            decided_at=None,
            rows={kind: rows},
            contacts={},
        )
        done = ChunkResult(failure.chunk_no, counts, failure.attempts, duration_ms=0)
        await chunks.finish_chunk(
            connection, self.job.key, done, worker=self.worker, error=failure.error
        )
        return done


def describe_error(error: BaseException) -> str:
    """Describe the error as it is stored with the chunk, so that its cause can be found."""
    said = str(error) if isinstance(error, SluiceError) else f"{type(error).__name__}: {error}"
    return said.replace("\x00", "\\0")[:MAX_ERROR_CHARACTERS]
