"""One chunk's transaction: claim it, read what is known, write what was decided."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from db.queries import load
from db.result_rows import RESULT_COLUMNS, Pair, ResultKind, pack_rows, result_columns
from db.time_limits import IDLE_MS, LOCK_MS, STATEMENT_MS, TRANSACTION_MS

_sql = load("chunks")
_results = load("results")

MAX_ROWS_BY_INSERT = 20
"""Up to so many result rows are inserted and not copied, which takes a round trip less."""


class ClaimedChunk(NamedTuple):
    """A chunk that this transaction holds; `attempts` were made before.

    `careful_attempts` is None unless a worker was lost with the chunk. It counts the attempts that
    were counted before they were made and have not ended.
    """

    chunk_no: int
    contact_ids: list[int]
    attempts: int
    careful_attempts: int | None = None

    @property
    def is_suspected(self) -> bool:
        """Whether it may have ended a worker."""
        return self.careful_attempts is not None


class AddressColumns(NamedTuple):
    """Addresses as columns of one order, and when that was true of all of them.

    A row's version is another one after each change of the row.
    """

    ids: list[int]
    statuses: list[str]
    sources: list[int | None]
    job_ids: list[int | None]
    people: list[int]
    versions: list[int]
    decided_at: datetime


Link: TypeAlias = tuple[int, int, int]
"""(contact, field, address)."""

Sibling: TypeAlias = tuple[int, int, int, int]
"""(source, contact, field, address): an address, and one that a contact holds beside it."""


class ChunkCounts(NamedTuple):
    """How many of a chunk's pairs ended how; `reasons` by "outcome:reason"."""

    applied: int
    unchanged: int
    rejected: int
    empty: int
    propagated: int
    reasons: dict[str, int]


NO_LANE = -1
"""What stands for a lane where the work comes by none."""


async def lock_job_shared(
    connection: asyncpg.Connection, job_id: int, *, lane: int = NO_LANE
) -> None:
    """Keep pause and cancel waiting until the transaction ends, so that their answer is exact.

    The sweeper sees until then that a worker is at the lane. From now on the transaction has the
    time limits of `db.time_limits`.
    """
    await _sql.lock_job_shared(
        connection,
        job_id=job_id,
        lane=lane,
        idle_ms=str(IDLE_MS),
        lock_ms=str(LOCK_MS),
        statement_ms=str(STATEMENT_MS),
        transaction_ms=str(TRANSACTION_MS),
    )


async def lock_job_exclusive(connection: asyncpg.Connection, job_id: int) -> None:
    """Wait for the chunks at work, and let none start until the transaction ends."""
    await _sql.lock_job_exclusive(connection, job_id=job_id)


async def claim_next(
    connection: asyncpg.Connection, job_id: int, *, share: float, lane: int = NO_LANE
) -> ClaimedChunk | None:
    """Lock the next pending chunk of a running job until the transaction ends.

    The search starts at `share` (0 to 1) of the job's chunks, then wraps to the beginning. Return
    None if no chunk is free.
    """
    row = await _sql.claim_next_chunk(connection, job_id=job_id, share=share, lane=lane)
    return ClaimedChunk(*row) if row else None


async def claim_by_number(
    connection: asyncpg.Connection, job_id: int, chunk_no: int
) -> ClaimedChunk | None:
    """Lock this chunk until the transaction ends; None unless it is pending and its job
    is running.
    """
    row = await _sql.claim_chunk_by_number(connection, job_id=job_id, chunk_no=chunk_no)
    return ClaimedChunk(*row) if row else None


async def count_attempt(
    connection: asyncpg.Connection, job_id: int, chunk: ClaimedChunk, *, lane: int, hop: int
) -> bool:
    """Count an attempt at the chunk before it is made, and note it in the lane.

    False where the chunk or the lane is another worker's by now.
    """
    counted = await _sql.count_attempt(
        connection,
        job_id=job_id,
        chunk_no=chunk.chunk_no,
        careful_attempts=chunk.careful_attempts,
        lane=lane,
        hop=hop,
    )
    return counted is not None


async def uncount_attempt(connection: asyncpg.Connection, job_id: int, chunk_no: int) -> None:
    """Take back an attempt that was counted and says nothing about the chunk."""
    await _sql.uncount_attempt(connection, job_id=job_id, chunk_no=chunk_no)


async def record_current_chunk(
    connection: asyncpg.Connection, job_id: int, chunk_no: int | None, *, lane: int, hop: int
) -> None:
    """Note which chunk the lane's worker has in hand, if any, without waiting for the disk."""
    await _sql.record_current_chunk(
        connection, job_id=job_id, chunk_no=chunk_no, lane=lane, hop=hop
    )


async def terminate_overlong_chunks(connection: asyncpg.Connection) -> int:
    """End the connections that work a chunk for longer than any may; gives their number.

    Raises asyncpg.InsufficientPrivilegeError where one is another role's.
    """
    seconds = (TRANSACTION_MS + LOCK_MS) / 1000
    return len([row async for row in _sql.terminate_overlong_chunks(connection, seconds=seconds)])


async def read_links(
    connection: asyncpg.Connection, account_id: int, contact_ids: Sequence[int]
) -> list[Link]:
    """Return the links of the contacts, ordered by contact and field."""
    row = await _sql.read_links(connection, account_id=account_id, contact_ids=contact_ids)
    return list(zip(*row, strict=True))


async def read_links_and_addresses(
    connection: asyncpg.Connection, account_id: int, contact_ids: Sequence[int]
) -> tuple[list[Link], AddressColumns]:
    """Return the links of the contacts, ordered by contact and field, and the linked addresses.

    Both come from one snapshot of the database. Nothing is locked.
    """
    row = await _sql.read_links_and_addresses(
        connection, account_id=account_id, contact_ids=contact_ids
    )
    return list(zip(*row[:3], strict=True)), AddressColumns(*row[3:])


async def find_existing_contacts(
    connection: asyncpg.Connection, account_id: int, contact_ids: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return which of the ids are contacts of the account, and which of those hold an address."""
    row = await _sql.find_existing_contacts(
        connection, account_id=account_id, contact_ids=contact_ids
    )
    return row["ids"], row["holding"]


async def read_siblings(
    connection: asyncpg.Connection,
    account_id: int,
    address_ids: Sequence[int],
    *,
    min_contacts: int,
    shared_address_limit: int,
) -> list[Sibling]:
    """Return the siblings, on any contact, of the addresses that at least `min_contacts`
    contacts hold.
    """
    rows = _sql.read_siblings(
        connection,
        account_id=account_id,
        address_ids=address_ids,
        min_contacts=min_contacts,
        shared_address_limit=shared_address_limit,
    )
    return [tuple(row) async for row in rows]


async def read_addresses(
    connection: asyncpg.Connection, account_id: int, address_ids: Sequence[int]
) -> AddressColumns:
    """Return the current addresses without locking them."""
    row = await _sql.read_addresses(connection, account_id=account_id, address_ids=address_ids)
    return AddressColumns(*row)


async def lock_addresses(
    connection: asyncpg.Connection,
    account_id: int,
    address_ids: Sequence[int],
    *,
    shared_address_limit: int | None = None,
) -> AddressColumns:
    """Lock the addresses in id order, and read them as they are then.

    With a limit, only addresses that at most as many contacts hold are locked.
    """
    row = await _sql.lock_addresses(
        connection,
        account_id=account_id,
        address_ids=address_ids,
        shared_address_limit=shared_address_limit,
    )
    return AddressColumns(*row)


async def find_with_opted_out_sibling(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    address_ids: Sequence[int],
    own_right_statuses: Sequence[str],
    shared_address_limit: int,
) -> list[int]:
    """Return which of the addresses have a sibling whose own opt-out is propagated."""
    found: list[int] = await _sql.find_with_opted_out_sibling(
        connection,
        account_id=account_id,
        job_id=job_id,
        address_ids=address_ids,
        own_right_statuses=own_right_statuses,
        shared_address_limit=shared_address_limit,
    )
    return found


async def find_earlier_decisions(
    connection: asyncpg.Connection, job_id: int, address_ids: Sequence[int]
) -> list[tuple[int, str, str | None, str | None]]:
    """Return (address, outcome, to_status, reason) of this job's direct decisions so far."""
    rows = _sql.find_earlier_decisions(connection, job_id=job_id, address_ids=address_ids)
    return [tuple(row) async for row in rows]


async def update_addresses(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    decided_at: datetime,
    changes: Mapping[int, tuple[Any, Any, int | None]],
    versions: Mapping[int, int],
) -> bool:
    """Give the addresses their new status: id to (from_status, to_status, source address).

    Return False if an address no longer has its version; the transaction must then be rolled back.
    Mostly all changes are alike, and only a list of ids is sent, with the few versions. Versions of
    addresses that are not locked must come from one statement, after all locks, so that none
    belongs to a later change of another address.
    """
    if not changes:
        return True
    common = {"account_id": account_id, "job_id": job_id, "decided_at": decided_at}
    ids = sorted(changes)
    ordered = [changes[id_] for id_ in ids]
    sources = [change[2] for change in ordered]
    if len({change[1] for change in ordered}) == 1 and not any(sources):
        tag = await _sql.update_alike(
            connection,
            to_status=ordered[0][1],
            address_ids=ids,
            versions=list({versions[id_] for id_ in ids}),
            **common,
        )
    else:
        number = {kind: n for n, kind in enumerate({change[:2] for change in ordered}, start=1)}
        from_statuses, to_statuses = zip(*number, strict=True)
        tag = await _sql.update_each(
            connection,
            address_ids=ids,
            kinds=[number[change[:2]] for change in ordered],
            source_ids=sources,
            versions=[versions[id_] for id_ in ids],
            from_statuses=from_statuses,
            to_statuses=to_statuses,
            **common,
        )
    return int(tag.rpartition(" ")[2]) == len(ids)


async def insert_results(
    connection: asyncpg.Connection,
    *,
    job_id: int,
    chunk_no: int,
    decided_at: datetime,
    rows: Mapping[ResultKind, Sequence[Pair]],
) -> None:
    """Append result rows: by COPY, where they are many."""
    count = sum(map(len, rows.values()))
    if 0 < count <= MAX_ROWS_BY_INSERT:
        await _results.insert_few(
            connection,
            job_id=job_id,
            chunk_no=chunk_no,
            decided_at=decided_at,
            **result_columns(rows),
        )
    elif count:
        await connection.copy_to_table(
            "results",
            source=pack_rows(job_id=job_id, chunk_no=chunk_no, decided_at=decided_at, rows=rows),
            columns=RESULT_COLUMNS,
            format="binary",
        )


async def insert_rejections(
    connection: asyncpg.Connection,
    *,
    job_id: int,
    chunk_no: int,
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Append result rows of a contact that could not be done, timed by the database."""
    if rows:
        columns = [name for name in RESULT_COLUMNS if name != "decided_at"]
        await connection.copy_records_to_table(
            "results", records=[(job_id, chunk_no, *row) for row in rows], columns=columns
        )


async def finish_chunk(
    connection: asyncpg.Connection,
    *,
    job_id: int,
    chunk_no: int,
    counts: ChunkCounts,
    attempts: int,
    worker: str,
    duration_ms: int,
    error: str | None = None,
) -> None:
    """Mark the chunk done. The database refuses counts that do not add up to its pairs."""
    await _sql.finish_chunk(
        connection,
        job_id=job_id,
        chunk_no=chunk_no,
        attempts=attempts,
        worker=worker,
        duration_ms=duration_ms,
        error=error,
        **counts._asdict(),
    )


async def insert_done_chunk(
    connection: asyncpg.Connection, job_id: int, chunk_no: int, *, propagated: int
) -> None:
    """Insert a finished chunk that holds what was propagated outside the planned chunks."""
    await _sql.insert_done_chunk(
        connection, job_id=job_id, chunk_no=chunk_no, propagated=propagated
    )


async def lock_failed_chunk(
    connection: asyncpg.Connection, job_id: int, chunk_no: int
) -> ClaimedChunk | None:
    """Hold a chunk that failed; None when someone else holds or has done it meanwhile, or its job
    does not run any more.
    """
    row = await _sql.lock_failed_chunk(connection, job_id=job_id, chunk_no=chunk_no)
    return ClaimedChunk(chunk_no, *row) if row else None


async def postpone_chunk(
    connection: asyncpg.Connection,
    *,
    job_id: int,
    chunk_no: int,
    attempts: int,
    error: str,
    delay_seconds: float,
    counted: bool,
) -> None:
    """Keep the chunk pending for a later attempt.

    `counted` says that this one was counted before it was made.
    """
    await _sql.postpone_chunk(
        connection,
        job_id=job_id,
        chunk_no=chunk_no,
        attempts=attempts,
        error=error,
        delay_seconds=delay_seconds,
        counted=counted,
    )


async def split_chunk(
    connection: asyncpg.Connection, *, job_id: int, chunk_no: int, attempts: int, error: str
) -> None:
    """Replace the chunk by its halves: no attempt was made yet, suspected they are as it was."""
    # Halves are numbered after the last chunk; two splits at once must not draw one number.
    await _sql.lock_chunk_numbers(connection, job_id=job_id)
    await _sql.split_chunk(
        connection, job_id=job_id, chunk_no=chunk_no, attempts=attempts, error=error
    )
