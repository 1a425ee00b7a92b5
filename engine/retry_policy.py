"""What happens to a chunk that failed: again later, then in halves, at last one contact refused.

Attempts are counted in Postgres, in a transaction of their own, after the chunk's own was rolled
back. What is not the chunk's fault (`db.errors`) is not counted.
"""

from typing import NamedTuple

import asyncpg

from db import address_lists, chunk_addresses, chunks, import_chunks, results
from db.chunks import ChunkCounts, ClaimedChunk
from db.job_progress import JobToWork
from runtime import events, logs
from schemas.errors import SluiceError
from schemas.outcomes import Cause, Outcome, Reason
from schemas.requests import LISTED_ADDRESS_FIELD
from schemas.results import ResultKind

log = logs.get_logger()

MAX_ATTEMPTS = 3
"""How often a chunk that raises is tried before it is split."""

SUSPECT_ATTEMPTS = 1
"""How often a chunk that lost a worker is tried alone before it is split. To split an innocent one,
whose worker was ended by chance, is harmless."""

SUSPECT_ATTEMPTS_AT_ONE = 2
"""The same for a single contact, which is refused afterwards. It costs one worker more, and takes
three workers ended by chance, each with the same contact in hand, to refuse an innocent one."""

MAX_REJECTED_WITHOUT_SUCCESS = 100
"""After so many contacts refused one by one, and nothing done, the job has failed as a whole:
what is wrong is then not with the contacts."""

MAX_ERROR_CHARACTERS = 2000


class WorkersLost(SluiceError):
    """The chunk seems to end the processes that work on it."""

    def __init__(self, *, lost: int) -> None:
        count = "1 worker was" if lost == 1 else f"{lost} workers were"
        super().__init__(f"{count} lost while this was all that they worked on")


def suspect_attempts_of(chunk: ClaimedChunk) -> int:
    """How many attempts that were counted beforehand may lose their workers."""
    return SUSPECT_ATTEMPTS if len(chunk.item_ids) > 1 else SUSPECT_ATTEMPTS_AT_ONE


class FailureHandler(NamedTuple):
    """Deals with the failed chunks of one job."""

    job: JobToWork
    creates_contacts: bool
    worker: str
    retry_seconds: float

    async def handle(
        self,
        connection: asyncpg.Connection,
        failed: ClaimedChunk,
        error: BaseException,
        *,
        is_counted: bool,
    ) -> ChunkCounts | None:
        """Postpone, split or refuse; gives the counts when a contact was refused at last.

        `is_counted` says that the attempt was counted before it was made.
        """
        text = describe_error(error)
        async with connection.transaction():
            await chunks.lock_job_shared(connection, self.job.id)
            chunk = await chunks.lock_failed_chunk(connection, self.job.key, failed.chunk_no)
            if chunk is None:
                return None
            attempts = max(failed.attempts + (not is_counted), chunk.attempts)
            delay_seconds = self.retry_seconds * 4.0 ** (attempts - 1)
            again = attempts < MAX_ATTEMPTS and not isinstance(error, WorkersLost)
            splits = not again and len(chunk.item_ids) > 1
            log.warning(
                events.CHUNK_FAILED,
                job=self.job.id,
                account=self.job.account_id,
                action=self.job.action,
                chunk=chunk.chunk_no,
                attempt=attempts,
                error=type(error).__name__,
                location=logs.error_location(error),
                next_step="again" if again else "split" if splits else "rejected",
                retry_in_seconds=delay_seconds if again else None,
                worker=self.worker,
            )
            if again:
                await chunks.postpone_chunk(
                    connection,
                    self.job.key,
                    chunk_no=chunk.chunk_no,
                    attempts=attempts,
                    error=text,
                    delay_seconds=delay_seconds,
                    counted=is_counted,
                )
                return None
            if splits:
                await chunks.split_chunk(
                    connection, self.job.key, chunk_no=chunk.chunk_no, attempts=attempts, error=text
                )
                log.warning(
                    events.CHUNK_SPLIT,
                    job=self.job.id,
                    account=self.job.account_id,
                    action=self.job.action,
                    chunk=chunk.chunk_no,
                    contacts=len(chunk.item_ids),
                )
                return None
            return await self._reject_item(connection, chunk, attempts, text)

    async def _reject_item(
        self, connection: asyncpg.Connection, chunk: ClaimedChunk, attempts: int, text: str
    ) -> ChunkCounts:
        """Reject the addresses of the one item that failed, so that the job goes on."""
        (item_id,) = chunk.item_ids
        addresses = await self._rejected_addresses(connection, item_id, text)
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
            chunk_no=chunk.chunk_no,
            decided_at=None,
            rows={kind: rows},
            contacts={},
        )
        await chunks.finish_chunk(
            connection,
            self.job.key,
            chunk_no=chunk.chunk_no,
            counts=counts,
            attempts=attempts,
            worker=self.worker,
            duration_ms=0,
            error=text,
        )
        return counts

    async def _rejected_addresses(
        self, connection: asyncpg.Connection, item_id: int, text: str
    ) -> dict[int, int | None]:
        """Map the selected fields in which the contact has, or would have had, an address to its
        id.
        """
        if self.job.fields == [LISTED_ADDRESS_FIELD]:
            await address_lists.reject_listed(
                connection, self.job.key, item_id=item_id, detail=text
            )
            return {LISTED_ADDRESS_FIELD: None}
        if self.creates_contacts:
            fields = await import_chunks.reject_row(
                connection, self.job.key, item_id=item_id, detail=text
            )
            return dict.fromkeys(fields)
        links = await chunk_addresses.read_links(connection, self.job.account_id, [item_id])
        return {field: address for _, field, address in links if field in self.job.fields}


def describe_error(error: BaseException) -> str:
    """Describe the error as it is stored with the chunk, so that its cause can be found."""
    said = str(error) if isinstance(error, SluiceError) else f"{type(error).__name__}: {error}"
    return said.replace("\x00", "\\0")[:MAX_ERROR_CHARACTERS]
