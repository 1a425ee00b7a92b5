"""What happens to a chunk that failed: again later, then in halves, at last one contact refused.

Attempts are counted in Postgres, in a transaction of their own, after the chunk's own was rolled
back. What is not the chunk's fault (`db.errors`) is not counted.
"""

from typing import NamedTuple

import asyncpg

from db import address_lists, chunks, import_chunks
from db.chunks import ChunkCounts, ClaimedChunk
from db.progress import JobToWork
from runtime import events, logs
from schemas.errors import SluiceError
from schemas.outcomes import Cause, Outcome, Reason
from schemas.requests import THE_ADDRESS

log = logs.get()

ATTEMPTS = 3
"""How often a chunk that raises is tried before it is split."""

CAREFUL_ATTEMPTS = 1
"""How often a chunk that lost a worker is tried alone before it is split. To split an innocent one,
whose worker was ended by chance, is harmless."""

CAREFUL_ATTEMPTS_AT_ONE = 2
"""The same for a single contact, which is refused afterwards. It costs one worker more, and takes
three workers ended by chance, each with the same contact in hand, to refuse an innocent one."""

HOPELESS = 100
"""After so many contacts refused one by one, and nothing done, the job has failed as a whole:
what is wrong is then not with the contacts."""

MAX_ERROR_TEXT = 2000


class WorkersLost(SluiceError):
    """The chunk seems to end the processes that work on it."""

    def __init__(self, *, lost: int) -> None:
        count = "1 worker was" if lost == 1 else f"{lost} workers were"
        super().__init__(f"{count} lost while this was all that they worked on")


def careful_attempts_of(chunk: ClaimedChunk) -> int:
    """How many attempts that were counted beforehand may lose their workers."""
    return CAREFUL_ATTEMPTS if len(chunk.contact_ids) > 1 else CAREFUL_ATTEMPTS_AT_ONE


class Setbacks(NamedTuple):
    """Deals with the failed chunks of one job."""

    job: JobToWork
    brings_contacts: bool
    worker: str
    retry_seconds: float

    async def take(
        self,
        connection: asyncpg.Connection,
        failed: ClaimedChunk,
        error: BaseException,
        *,
        counted: bool,
    ) -> ChunkCounts | None:
        """Postpone, split or refuse; gives the counts when a contact was refused at last.

        `counted` says that the attempt was counted before it was made.
        """
        text = describe(error)
        async with connection.transaction():
            await chunks.hold_job(connection, self.job.id)
            chunk = await chunks.lock_failed(connection, self.job.id, failed.chunk_no)
            if chunk is None:
                return None
            attempts = max(failed.attempts + (not counted), chunk.attempts)
            delay_seconds = self.retry_seconds * 4.0 ** (attempts - 1)
            again = attempts < ATTEMPTS and not isinstance(error, WorkersLost)
            splits = not again and len(chunk.contact_ids) > 1
            log.warning(
                events.CHUNK_FAILED,
                job=self.job.id,
                account=self.job.account_id,
                action=self.job.action,
                chunk=chunk.chunk_no,
                attempt=attempts,
                error=type(error).__name__,
                place=logs.place_of(error),
                next="again" if again else "split" if splits else "refused",
                again_in_seconds=delay_seconds if again else None,
                worker=self.worker,
            )
            if again:
                await chunks.postpone(
                    connection,
                    job_id=self.job.id,
                    chunk_no=chunk.chunk_no,
                    attempts=attempts,
                    error=text,
                    delay_seconds=delay_seconds,
                    counted=counted,
                )
                return None
            if splits:
                await chunks.split(
                    connection,
                    job_id=self.job.id,
                    chunk_no=chunk.chunk_no,
                    attempts=attempts,
                    error=text,
                )
                log.warning(
                    events.CHUNK_SPLIT,
                    job=self.job.id,
                    account=self.job.account_id,
                    action=self.job.action,
                    chunk=chunk.chunk_no,
                    contacts=len(chunk.contact_ids),
                )
                return None
            return await self._refuse(connection, chunk, attempts, text)

    async def _refuse(
        self, connection: asyncpg.Connection, chunk: ClaimedChunk, attempts: int, text: str
    ) -> ChunkCounts:
        """The one contact that cannot be done: its addresses are rejected, the job goes on."""
        (contact_id,) = chunk.contact_ids
        addresses = await self._addresses(connection, contact_id, text)
        counts = ChunkCounts(
            applied=0,
            unchanged=0,
            rejected=len(addresses),
            empty=len(self.job.fields) - len(addresses),
            propagated=0,
            reasons={f"{Outcome.REJECTED}:{Reason.INTERNAL_ERROR}": len(addresses)},
        )
        await chunks.write_refusals(
            connection,
            job_id=self.job.id,
            chunk_no=chunk.chunk_no,
            rows=[
                (
                    contact_id,
                    field,
                    address_id,
                    Outcome.REJECTED,
                    Reason.INTERNAL_ERROR,
                    None,
                    None,
                    Cause.DIRECT,
                    None,
                )
                for field, address_id in sorted(addresses.items())
            ],
        )
        await chunks.finish(
            connection,
            job_id=self.job.id,
            chunk_no=chunk.chunk_no,
            counts=counts,
            attempts=attempts,
            worker=self.worker,
            duration_ms=0,
            error=text,
        )
        return counts

    async def _addresses(
        self, connection: asyncpg.Connection, contact_id: int, text: str
    ) -> dict[int, int | None]:
        """The selected fields in which the contact has, or would have had, an address."""
        if self.job.fields == [THE_ADDRESS]:
            await address_lists.refuse(
                connection, job_id=self.job.id, row_id=contact_id, detail=text
            )
            return {THE_ADDRESS: None}
        if self.brings_contacts:
            fields = await import_chunks.refuse(
                connection, job_id=self.job.id, contact_id=contact_id, detail=text
            )
            return dict.fromkeys(fields)
        links = await chunks.links_of_contacts(connection, self.job.account_id, [contact_id])
        return {field: address for _, field, address in links if field in self.job.fields}


def describe(error: BaseException) -> str:
    """The error as kept with the chunk, for the person who has to find its cause."""
    said = str(error) if isinstance(error, SluiceError) else f"{type(error).__name__}: {error}"
    return said.replace("\x00", "\\0")[:MAX_ERROR_TEXT]
