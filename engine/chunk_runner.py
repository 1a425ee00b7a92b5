"""One chunk, one transaction: claim, read, decide, write, mark done, or nothing of it.

The transaction begins and ends in `ChunkRunner.run_next`. Nothing below it commits, and every error
rolls all of it back. Apart from this transaction:

- The worker records the current chunk in its lane, over a second connection
  (`workers/lane_heartbeat.py`).
- An attempt at a suspect chunk is counted before the chunk's transaction begins
  (`workers/slices.py`).
- A failure is handled after the rollback (`engine/retry_policy.py`).
- An immediate opt-out calls `ChunkRunner.decide` only, and writes its one chunk in one statement
  (`producers/immediate_opt_out.py`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

import asyncpg

from actions.bulk_action import BulkAction
from actions.registry import get_action
from actions.rules.chunk import ChunkDecisions, ChunkInputs
from actions.rules.chunk_decisions import decide_chunk
from db import chunk_addresses, chunks, results
from db.address_lists import ListLookup
from db.chunks import ChunkCounts, ChunkResult, ClaimedChunk
from db.errors import TRANSIENT_ERRORS
from db.job_progress import JobToWork
from db.result_rows import ResultRows
from engine.chunk_reader import ChunkReader, ChunkSnapshot
from engine.retry_policy import require_suspect_attempts_left
from engine.sources import source_of
from schemas.chunk_rows import Change
from schemas.errors import ConcurrentLink, SluiceError, StaleRead
from schemas.outcomes import Cause
from schemas.statuses import Status

MAX_TRIES = 10
"""How many times a chunk is tried while other transactions change what it has read."""


class DecidedChunk(NamedTuple):
    """What was read of a chunk and what was decided. Nothing is written yet."""

    snapshot: ChunkSnapshot
    decisions: ChunkDecisions
    counts: ChunkCounts

    @property
    def changes(self) -> dict[int, Change]:
        """The changes to write.

        An address that the chunk created has its first status already, so it needs no change unless
        an opt-out was propagated to it.
        """
        return {
            id_: change
            for id_, change in self.decisions.changes.items()
            if id_ not in self.snapshot.new or change[2] is not None
        }

    def statuses(self) -> list[Status]:
        """Return the new status of each selected pair that has an address."""
        inputs, changes = self.snapshot.inputs, self.decisions.changes
        selected = [link[2] for link in inputs.selected_links()]
        found = (
            changes[id_][1] if id_ in changes else inputs.addresses[id_][0] for id_ in selected
        )
        return [Status(status) for status in found if status is not None]


class ChunkFailed(SluiceError):
    """The work on a chunk raised `__cause__`, and all of it was rolled back.

    `is_chunk_fault` is False if the error was transient and says nothing about the chunk.
    """

    def __init__(self, chunk: ClaimedChunk, *, is_chunk_fault: bool) -> None:
        super().__init__(f"chunk {chunk.chunk_no} failed and was rolled back")
        self.chunk = chunk
        self.is_chunk_fault = is_chunk_fault


class ChunkSuspected(Exception):
    """The chunk is a suspect and must be worked on alone. Nothing of it was begun."""

    def __init__(self, chunk: ClaimedChunk) -> None:
        super().__init__(f"chunk {chunk.chunk_no} is suspected")
        self.chunk = chunk


class ActiveLane(NamedTuple):
    """The lane for which chunks are worked on.

    The search for the next chunk begins at `share` (0 to 1) of the job's chunks. With `is_suspect`,
    every chunk is treated as a suspect. `record_current` records the claimed chunk in the lane; it
    must not raise.
    """

    number: int
    share: float
    is_suspect: bool
    record_current: Callable[[int], Awaitable[None]]


@contextmanager
def _wrap_errors(chunk: ClaimedChunk) -> Iterator[None]:
    """Raise an error of the block as ChunkFailed.

    Let pass ConcurrentLink and StaleRead, after which the chunk is tried again, and ChunkSuspected.
    """
    try:
        yield
    except (ConcurrentLink, StaleRead, ChunkFailed, ChunkSuspected):
        raise
    except Exception as error:
        is_chunk_fault = not isinstance(error, TRANSIENT_ERRORS)
        raise ChunkFailed(chunk, is_chunk_fault=is_chunk_fault) from error


class ChunkRunner(NamedTuple):
    """Works on chunks of one job."""

    job: JobToWork
    action: BulkAction
    params: Any
    role_address_limit: int
    worker: str

    @classmethod
    def for_job(cls, job: JobToWork, *, role_address_limit: int, worker: str) -> Self:
        """Return the runner of a job. Raises NotFound if this version does not know its action."""
        action = get_action(job.action)
        params = action.params.model_validate(job.params)
        return cls(job, action, params, role_address_limit, worker)

    async def run_next(
        self,
        connection: asyncpg.Connection,
        *,
        only_chunk_no: int | None = None,
        lane: ActiveLane | None = None,
    ) -> ChunkResult | None:
        """Work on the next free chunk, or on the chunk `only_chunk_no`; None if it is not free.

        If another transaction changed or linked something in the meantime, read and decide again,
        up to MAX_TRIES times. If the connection breaks during the commit, the chunk's row shows
        whether it was done. Raises ChunkSuspected if the lane's next chunk must be worked on alone,
        and ChunkFailed if a chunk failed. The driver's errors before the claim are raised as they
        are.
        """
        lock_all = False
        tries = 0
        while True:
            tries += 1
            chunk = None
            record_task: asyncio.Task[None] | None = None
            try:
                async with connection.transaction():
                    chunk = await self._claim(connection, only_chunk_no, lane)
                    if chunk is None:
                        return None
                    if only_chunk_no is None and lane is not None:
                        # Concurrently with the chunk's own statements, which do not wait for it.
                        record_task = asyncio.ensure_future(lane.record_current(chunk.chunk_no))
                    return await self._process(connection, chunk, record_task, lock_all=lock_all)
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
                # A record made after that of the next chunk would name the wrong chunk.
                if record_task is not None:
                    await record_task

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

    async def _process(
        self,
        connection: asyncpg.Connection,
        chunk: ClaimedChunk,
        record_task: Awaitable[None] | None,
        *,
        lock_all: bool,
    ) -> ChunkResult:
        began = time.perf_counter()
        decided = await self.decide(connection, chunk, lock_all=lock_all, record_task=record_task)
        with _wrap_errors(chunk):
            try:
                await self._write(connection, chunk, decided)
            except asyncpg.UniqueViolationError as error:
                if lock_all:
                    raise
                # Both chunks reach one contact, which was linked since this one read.
                raise StaleRead("another chunk wrote a result since this one read") from error
            duration_ms = round((time.perf_counter() - began) * 1000)
            done = ChunkResult(chunk.chunk_no, decided.counts, chunk.attempts, duration_ms)
            await chunks.finish_chunk(connection, self.job.key, done, worker=self.worker)
        return done

    async def decide(
        self,
        connection: asyncpg.Connection,
        chunk: ClaimedChunk,
        *,
        lock_all: bool,
        lookup: ListLookup | None = None,
        record_task: Awaitable[None] | None = None,
    ) -> DecidedChunk:
        """Read the chunk, wait for `record_task`, then decide.

        `lookup` has the addresses of a list that is not stored. Raises StaleRead or ConcurrentLink
        if the caller must begin the transaction again; after StaleRead, with `lock_all`. Any other
        error is raised as ChunkFailed.
        """
        with _wrap_errors(chunk):
            require_suspect_attempts_left(chunk)
            reader = ChunkReader(
                connection,
                self.job,
                self.action,
                self.params,
                self.role_address_limit,
                lock_all,
                lookup,
            )
            snapshot = await source_of(self.job).read(reader, chunk)
            if record_task is not None:
                await record_task
            try:
                decisions = decide_chunk(self.action, self.params, snapshot.inputs)
            except Exception as error:
                # Rules do no input or output, so this is no transient error, whatever its type.
                raise ChunkFailed(chunk, is_chunk_fault=True) from error
            counts = count_outcomes(chunk, len(self.job.fields), decisions)
            return DecidedChunk(snapshot, decisions, counts)

    async def _write(
        self, connection: asyncpg.Connection, chunk: ClaimedChunk, decided: DecidedChunk
    ) -> None:
        """Write the results, then the addresses, which stay locked until the commit.

        Results that another chunk may write too come last: the lock on their address keeps that
        chunk from writing them.
        """
        snapshot = decided.snapshot
        contact_ids = source_of(self.job).contact_ids(chunk)
        exclusive, shared = partition_rows(decided.decisions.rows, snapshot.inputs, contact_ids)
        insert_results = partial(
            results.insert_results,
            connection,
            self.job.key,
            chunk_no=chunk.chunk_no,
            decided_at=snapshot.decided_at,
            contacts=snapshot.contacts,
        )
        await insert_results(rows=exclusive)
        as_read = await chunk_addresses.update_addresses(
            connection,
            self.job.key,
            decided_at=snapshot.decided_at,
            changes=decided.changes,
            versions=snapshot.versions,
        )
        if not as_read:
            raise StaleRead("another transaction changed an address since it was read")
        await insert_results(rows=shared)


def partition_rows(
    rows: ResultRows, inputs: ChunkInputs, contact_ids: Collection[int]
) -> tuple[ResultRows, ResultRows]:
    """Return the rows that only this chunk writes, and those that another may write too.

    A direct row belongs to the chunk of its contact. A propagated one may also come from another
    chunk: its contact may be outside this one, or share an address with outside contacts.
    """
    exclusive = {kind: of for kind, of in rows.items() if kind.cause is not Cause.PROPAGATED}
    shared = {}
    propagated = {kind: of for kind, of in rows.items() if kind.cause is Cause.PROPAGATED}
    if propagated:
        addresses = inputs.addresses
        unshared = set(contact_ids)
        unshared.difference_update(link[0] for link in inputs.links if addresses[link[2]][3] > 1)
        for kind, of in propagated.items():
            exclusive[kind] = [row for row in of if row[0] in unshared]
            shared[kind] = [row for row in of if row[0] not in unshared]
    return exclusive, shared


def count_outcomes(chunk: ClaimedChunk, fields: int, decided: ChunkDecisions) -> ChunkCounts:
    """Return the chunk's counts. A pair without a row is empty."""
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
