"""What depends on the kind of items that a job has: one method each."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import asyncpg

from db.chunks import ClaimedChunk
from db.forecasting import ForecastJob
from db.job_progress import JobToWork
from db.jobs import Job
from db.planning import JobToPlan
from engine.chunk_reader import ChunkReader, ChunkSnapshot
from schemas.chunk_rows import PairGroup

ForecastPart: TypeAlias = Callable[[asyncpg.Connection], Awaitable[tuple[list[PairGroup], int]]]
"""Counts pairs of a part of the selection, and the addresses to which opt-outs propagate."""


class Source(ABC):
    """Where the items of a job come from."""

    is_finalized: bool = False
    """`finalize` changes addresses, so it needs the job's exclusive lock."""

    @abstractmethod
    async def freeze(self, connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
        """Freeze the job's selection into chunks of at most `chunk_size` items."""

    @abstractmethod
    async def forecast_parts(
        self, connection: asyncpg.Connection, job: ForecastJob, step: int
    ) -> Sequence[ForecastPart]:
        """Return the parts to count of a planned job, the largest first. `step` is in chunks."""

    @abstractmethod
    async def read(self, reader: ChunkReader, chunk: ClaimedChunk) -> ChunkSnapshot:
        """Read everything that the decisions on the chunk depend on.

        Raises ConcurrentLink if contacts were created, or linked to an address of the chunk,
        in the meantime. The transaction must then be rolled back and begun again.
        """

    def contact_ids(self, chunk: ClaimedChunk) -> Sequence[int]:
        """Return the contacts or import rows that only this chunk of the job selects."""
        return chunk.item_ids

    @abstractmethod
    async def reject_item(
        self, connection: asyncpg.Connection, job: JobToWork, item_id: int, error: str
    ) -> dict[int, int | None]:
        """Reject an item that failed. Map the selected fields in which it has an address to the
        address id, or to None if no address is stored.
        """

    async def finalize(
        self, connection: asyncpg.Connection, job: JobToWork | Job, role_address_limit: int
    ) -> None:
        """Finish what the chunks left open, in the transaction that ends the job."""
        del connection, job, role_address_limit
