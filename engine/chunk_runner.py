"""One chunk, one transaction: claim, read, decide, write, done. Or nothing of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import asyncpg

from actions.bulk_action import BulkAction
from actions.registry import get_action
from actions.rules.chunk import ChunkDecisions
from actions.rules.chunk_decisions import decide_chunk
from db import chunk_addresses, chunks, results
from db.address_lists import ListLookup
from db.chunks import ChunkCounts, ClaimedChunk
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobToWork
from db.result_rows import ResultRows
from engine.chunk_reader import ChunkSnapshot, read_chunk
from engine.result_conflicts import partition_rows
from engine.retry_policy import WorkersLost, suspect_attempts_of
from schemas.chunk_rows import Change
from schemas.errors import ConcurrentLink, SluiceError, StaleRead
from schemas.outcomes import Cause
from schemas.requests import LISTED_ADDRESS_FIELD
from schemas.statuses import Status

MAX_TRIES = 10
"""So often a chunk is begun in one go where others come between its reading and its writing."""


class ChunkResult(NamedTuple):
    """A chunk that was committed."""

    chunk_no: int
    counts: ChunkCounts
    attempts: int
    duration_ms: int


class DecidedChunk(NamedTuple):
    """What is known of a chunk, and what was decided on it; nothing of it is written yet."""

    snapshot: ChunkSnapshot
    decisions: ChunkDecisions
    counts: ChunkCounts

    @property
    def rows(self) -> ResultRows:
        """The results."""
        return self.decisions.rows

    @property
    def changes(self) -> dict[int, Change]:
        """The changes to be made: a new address was stored with its first status."""
        return {
            id_: change
            for id_, change in self.decisions.changes.items()
            if id_ not in self.snapshot.new or change[2] is not None
        }

    def statuses(self) -> list[Status]:
        """Return the selected addresses' new statuses, one for each time that an address is
        selected.
        """
        facts, changes = self.snapshot.facts, self.decisions.changes
        selected = [link[2] for link in facts.selected_links()]
        found = (changes[id_][1] if id_ in changes else facts.addresses[id_][0] for id_ in selected)
        return [Status(status) for status in found if status is not None]


class ChunkFailed(SluiceError):
    """The work on a chunk raised, and all of it was rolled back; `__cause__` is the error.

    `is_chunk_fault` tells whether that says something about the chunk.
    """

    def __init__(self, chunk: ClaimedChunk, *, is_chunk_fault: bool) -> None:
        super().__init__(f"chunk {chunk.chunk_no} failed and was rolled back")
        self.chunk = chunk
        self.is_chunk_fault = is_chunk_fault


class ChunkSuspected(Exception):
    """The chunk may have ended a worker: it is to be worked alone, and nothing of it was begun."""

    def __init__(self, chunk: ClaimedChunk) -> None:
        super().__init__(f"chunk {chunk.chunk_no} is suspected")
        self.chunk = chunk


class ActiveLane(NamedTuple):
    """The lane by which chunks are worked.

    The search for the next chunk begins at `share` of them (0 to 1). With `is_suspect` every chunk
    is taken for suspected. `on_claim` tells that a chunk is in hand; it raises nothing.
    """

    number: int
    share: float
    is_suspect: bool
    on_claim: Callable[[int], Awaitable[None]]


@contextmanager
def _wrap_errors(chunk: ClaimedChunk) -> Iterator[None]:
    """Convert any error into a failure of the chunk, except those that ask for a new start."""
    try:
        yield
    except (ConcurrentLink, StaleRead, ChunkFailed, ChunkSuspected):
        raise
    except Exception as error:
        is_chunk_fault = not isinstance(error, TRANSIENT_ERRORS)
        raise ChunkFailed(chunk, is_chunk_fault=is_chunk_fault) from error


class ChunkRunner(NamedTuple):
    """Works chunks of one job."""

    job: JobToWork
    action: BulkAction
    params: Any
    shared_address_limit: int
    worker: str

    @classmethod
    def for_job(cls, job: JobToWork, *, shared_address_limit: int, worker: str) -> Self:
        """Make the runner of a job whose action this version knows."""
        action = get_action(job.action)
        return cls(
            job=job,
            action=action,
            params=action.params.model_validate(job.params),
            shared_address_limit=shared_address_limit,
            worker=worker,
        )

    async def run_next(
        self,
        connection: asyncpg.Connection,
        *,
        only_chunk_no: int | None = None,
        lane: ActiveLane | None = None,
    ) -> ChunkResult | None:
        """Work on the next free chunk, or on the chunk `only_chunk_no`; None if it is not free.

        If others changed or linked something in the meantime, it is read and decided again, up to
        MAX_TRIES times. Raises ChunkSuspected if the lane's next chunk must be worked on alone.
        Raises ChunkFailed if a chunk failed, or others interfered each time, which says nothing
        about the chunk. If the connection breaks during the commit, the chunk's row shows whether
        it was done. The driver's errors before a chunk is claimed are raised as they are.
        """
        lock_all = False
        tries = 0
        while True:
            tries += 1
            chunk = None
            claim_task: asyncio.Task[None] | None = None
            try:
                async with connection.transaction():
                    chunk = await self._claim(connection, only_chunk_no, lane)
                    if chunk is None:
                        return None
                    if only_chunk_no is None and lane is not None:
                        # Beside the chunk's own statements, which this does not keep waiting.
                        claim_task = asyncio.ensure_future(lane.on_claim(chunk.chunk_no))
                    done = await self.process_chunk(
                        connection, chunk, lock_all=lock_all, claim_task=claim_task
                    )
                    await self._finish(connection, chunk, done)
                    return done
            except (StaleRead, ConcurrentLink) as error:
                lock_all = lock_all or isinstance(error, StaleRead)
                if tries == MAX_TRIES:
                    assert chunk is not None
                    raise ChunkFailed(chunk, is_chunk_fault=False) from error
            except TRANSIENT_ERRORS as error:
                # From the commit, or from a rollback on a connection that broke.
                if chunk is None:
                    raise
                raise ChunkFailed(chunk, is_chunk_fault=False) from error
            finally:
                # A note that came later than the next chunk's would name the wrong one.
                if claim_task is not None:
                    await claim_task

    async def _claim(
        self, connection: asyncpg.Connection, only_chunk_no: int | None, lane: ActiveLane | None
    ) -> ClaimedChunk | None:
        number, share = (lane.number, lane.share) if lane else (chunks.NO_LANE, 0.0)
        await chunks.lock_job_shared(connection, self.job.id, lane=number)
        if only_chunk_no is not None:
            return await chunks.claim_by_number(connection, self.job.key, only_chunk_no)
        chunk = await chunks.claim_next(connection, self.job.key, share=share, lane=number)
        if chunk is not None and lane is not None and (lane.is_suspect or chunk.is_suspected):
            raise ChunkSuspected(chunk)
        return chunk

    async def process_chunk(
        self,
        connection: asyncpg.Connection,
        chunk: ClaimedChunk,
        *,
        lock_all: bool,
        claim_task: Awaitable[None] | None = None,
    ) -> ChunkResult:
        """Decide and write the chunk, which the transaction holds; noting it as done is left.

        Raises StaleRead and ConcurrentLink when the transaction is to be rolled back and begun
        again, after StaleRead with `lock_all`; otherwise ChunkFailed.
        """
        began = time.perf_counter()
        decided = await self.decide(connection, chunk, lock_all=lock_all, claim_task=claim_task)
        with _wrap_errors(chunk):
            try:
                await self._write(connection, chunk, decided)
            except asyncpg.UniqueViolationError as error:
                if lock_all:
                    raise
                # Through someone who was linked since then, it may have had the same row to write.
                raise StaleRead("another chunk wrote a result since this one read") from error
        duration_ms = round((time.perf_counter() - began) * 1000)
        return ChunkResult(chunk.chunk_no, decided.counts, chunk.attempts, duration_ms)

    async def decide(
        self,
        connection: asyncpg.Connection,
        chunk: ClaimedChunk,
        *,
        lock_all: bool,
        lookup: ListLookup | None = None,
        claim_task: Awaitable[None] | None = None,
    ) -> DecidedChunk:
        """Read what is known of the chunk and decide it; raises as `process_chunk` does. `lookup`
        are the addresses of a list that was never kept. Nothing is decided before the chunk is
        `claim_task`.
        """
        with _wrap_errors(chunk):
            if (chunk.suspect_attempts or 0) > suspect_attempts_of(chunk):
                raise WorkersLost(lost=suspect_attempts_of(chunk))
            snapshot = await read_chunk(
                connection,
                job=self.job,
                action=self.action,
                params=self.params,
                chunk=chunk,
                shared_address_limit=self.shared_address_limit,
                lock_all=lock_all,
                lookup=lookup,
            )
            if claim_task is not None:
                await claim_task
            decisions = self._decide(chunk, snapshot)
            return DecidedChunk(
                snapshot, decisions, count_outcomes(chunk, len(self.job.fields), decisions)
            )

    async def _finish(
        self, connection: asyncpg.Connection, chunk: ClaimedChunk, done: ChunkResult
    ) -> None:
        with _wrap_errors(chunk):
            await chunks.finish_chunk(
                connection,
                self.job.key,
                chunk_no=done.chunk_no,
                counts=done.counts,
                attempts=done.attempts,
                worker=self.worker,
                duration_ms=done.duration_ms,
            )

    def _decide(self, chunk: ClaimedChunk, snapshot: ChunkSnapshot) -> ChunkDecisions:
        """Decide the chunk. Rules do no input or output, so an error of theirs is the chunk's
        failure.
        """
        try:
            return decide_chunk(self.action, self.params, snapshot.facts)
        except Exception as error:
            raise ChunkFailed(chunk, is_chunk_fault=True) from error

    async def _write(
        self, connection: asyncpg.Connection, chunk: ClaimedChunk, decided: DecidedChunk
    ) -> None:
        """Write the results, then the addresses: an address is locked from its change to the
        commit.

        Results that another chunk may write too come after the change, since only its lock keeps
        that chunk from writing the same ones.
        """
        snapshot = decided.snapshot
        # Of a list of addresses the rows are no contacts, and each contact that is reached may be
        # reached from another chunk.
        contact_ids = () if LISTED_ADDRESS_FIELD in snapshot.facts.fields else chunk.item_ids
        rows = partition_rows(decided.rows, snapshot.facts, contact_ids)
        await self._insert_results(connection, chunk, snapshot, rows.own)
        as_read = await chunk_addresses.update_addresses(
            connection,
            self.job.key,
            decided_at=snapshot.decided_at,
            changes=decided.changes,
            versions=snapshot.versions,
        )
        if not as_read:
            raise StaleRead("an address was changed by someone else since it was read")
        await self._insert_results(connection, chunk, snapshot, rows.contested)

    async def _insert_results(
        self,
        connection: asyncpg.Connection,
        chunk: ClaimedChunk,
        snapshot: ChunkSnapshot,
        rows: ResultRows,
    ) -> None:
        await results.insert_results(
            connection,
            self.job.key,
            chunk_no=chunk.chunk_no,
            decided_at=snapshot.decided_at,
            rows=rows,
            contacts=snapshot.contacts,
        )


def count_outcomes(chunk: ClaimedChunk, fields: int, decided: ChunkDecisions) -> ChunkCounts:
    """Return the chunk's counts. A pair without a row is empty: the contact has no
    address there.
    """
    by_outcome: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    propagated = 0
    for kind, rows in decided.rows.items():
        if kind.cause is Cause.PROPAGATED:
            propagated += len(rows)
            continue
        by_outcome[kind.outcome] += len(rows)
        if kind.reason is not None:
            reasons[f"{kind.outcome}:{kind.reason}"] += len(rows)
    return ChunkCounts(
        applied=by_outcome["applied"],
        unchanged=by_outcome["unchanged"],
        rejected=by_outcome["rejected"],
        empty=len(chunk.item_ids) * fields - by_outcome.total(),
        propagated=propagated,
        reasons=reasons,
    )
