"""Reading what became of addresses, fast however many results there are.

Everything that can be long comes in pages that go by key: no transaction, and so no snapshot,
stays open while somebody reads, and memory is bounded by a page.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Self

import asyncpg

from db.queries import load
from schemas.outcomes import Cause, Outcome
from schemas.requests import MAX_ID
from schemas.statuses import Status

_sql = load("reading")

RESULTS_PER_PAGE = 5_000
CHUNKS_PER_PAGE = 10


class ResultCursor(NamedTuple):
    """Where the next page of a job's results begins: after this row."""

    contact_id: int
    field: int
    cause: str


FIRST_RESULT = ResultCursor(-MAX_ID - 1, 0, Cause.DIRECT.value)


class Result(NamedTuple):
    """What became of one address in one job. `error` is set where Sluice itself failed on it."""

    contact_id: int
    field: int
    cause: Cause
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    decided_at: datetime
    address_id: int | None
    source_address_id: int | None
    address: str | None
    source_address: str | None
    error: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(**_decided(row))

    @property
    def cursor(self) -> ResultCursor:
        return ResultCursor(self.contact_id, self.field, self.cause.value)


class Refused(NamedTuple):
    """A row, or a cell, of an imported file that was left out; `line` is where its row begins."""

    line: int
    reason: str
    detail: str


class AddressNow(NamedTuple):
    """An address, what it is now, and where that came from."""

    id: int
    address: str
    status: Status
    previous_status: Status | None
    status_job_id: int | None
    status_changed_at: datetime
    holders: int
    propagated_from: int | None
    propagated_from_address: str | None


class Holder(NamedTuple):
    """A contact that holds an address, and in which field."""

    contact_id: int
    field: int
    given_name: str | None
    family_name: str | None
    company: str | None


class Chapter(NamedTuple):
    """One decision in the history of an address: a result, with who asked for the job."""

    job_id: int
    action: str
    requested_by: str
    evidence_source: str | None
    contact_id: int
    field: int
    cause: Cause
    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    decided_at: datetime
    source_address_id: int | None
    source_address: str | None
    error: str | None


async def results_page(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    outcome: Outcome | None = None,
    reason: str | None = None,
    after: ResultCursor = FIRST_RESULT,
    most: int = RESULTS_PER_PAGE,
) -> list[Result]:
    """Up to `most` results of the job, in the order of their cursors. `account_id` is the job's."""
    wanted = {"account_id": account_id, "job_id": job_id, "reason": reason, "most": most}
    if outcome is Outcome.REJECTED:
        rows = _sql.rejected_page(
            connection, **wanted, contact_id=after.contact_id, field=after.field
        )
    else:
        rows = _sql.results_page(
            connection, **wanted, **after._asdict(), outcome=outcome.value if outcome else None
        )
    return [Result.from_row(row) async for row in rows]


async def all_results(
    pool: asyncpg.Pool,
    *,
    account_id: int,
    job_id: int,
    outcome: Outcome | None = None,
    reason: str | None = None,
    most: int | None = None,
) -> AsyncIterator[Result]:
    """The results of the job, all or the first `most`, page by page."""
    after, left = FIRST_RESULT, most
    while left is None or left > 0:
        size = RESULTS_PER_PAGE if left is None else min(left, RESULTS_PER_PAGE)
        async with pool.acquire() as connection:
            page = await results_page(
                connection,
                account_id=account_id,
                job_id=job_id,
                outcome=outcome,
                reason=reason,
                after=after,
                most=size,
            )
        for result in page:
            yield result
        if len(page) < size:
            return
        after = page[-1].cursor
        left = None if left is None else left - size


async def unprocessed_contacts(pool: asyncpg.Pool, job_id: int) -> AsyncIterator[int]:
    """The ids of the contacts whose chunks were not worked, in chunks' order."""
    after = -1
    while True:
        async with pool.acquire() as connection:
            page = [
                row
                async for row in _sql.unprocessed_page(
                    connection, job_id=job_id, chunk_no=after, most=CHUNKS_PER_PAGE
                )
            ]
        for chunk_no, contact_ids in page:
            after = chunk_no
            for contact_id in contact_ids:
                yield contact_id
        if len(page) < CHUNKS_PER_PAGE:
            return


async def unprocessed_lines(pool: asyncpg.Pool, job_id: int) -> AsyncIterator[int]:
    """The lines at which those rows of an import's file begin that became no contact."""
    after = -1
    while True:
        async with pool.acquire() as connection:
            page = [
                row
                async for row in _sql.unprocessed_lines_page(
                    connection, job_id=job_id, contact_id=after, most=RESULTS_PER_PAGE
                )
            ]
        for line, contact_id in page:
            after = contact_id
            yield line
        if len(page) < RESULTS_PER_PAGE:
            return


async def refusals(pool: asyncpg.Pool, job_id: int) -> AsyncIterator[Refused]:
    """What was left out of the import's file, in its order."""
    after = -1
    while True:
        async with pool.acquire() as connection:
            page = [
                Refused(*row)
                async for row in _sql.refusals_page(
                    connection, job_id=job_id, line=after, most=RESULTS_PER_PAGE
                )
            ]
        for row in page:
            yield row
        if len(page) < RESULTS_PER_PAGE:
            return
        after = page[-1].line


async def refusals_by_reason(connection: asyncpg.Connection, job_id: int) -> dict[str, int]:
    """How many rows and cells of the import's file were left out, by reason, most first."""
    rows = _sql.refusals_by_reason(connection, job_id=job_id)
    return {row["reason"]: row["refused"] async for row in rows}


async def address_now(
    connection: asyncpg.Connection, *, account_id: int, match_key: str
) -> AddressNow | None:
    """The address of this identity, or None when the account has none."""
    row = await _sql.address(connection, account_id=account_id, match_key=match_key)
    return AddressNow(**_decided(row)) if row else None


async def holders_of(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, most: int
) -> tuple[list[Holder], int]:
    """Up to `most` contacts that hold the address, and how many there are."""
    rows = _sql.contacts_of_address(
        connection, account_id=account_id, address_id=address_id, most=most
    )
    holders = [Holder(*row) async for row in rows]
    count: int = await _sql.count_contacts_of_address(
        connection, account_id=account_id, address_id=address_id
    )
    return holders, count


async def history_of(
    connection: asyncpg.Connection, *, account_id: int, address_id: int, most: int
) -> list[Chapter]:
    """Up to `most` decisions about the address, newest first."""
    rows = _sql.history_of_address(
        connection, account_id=account_id, address_id=address_id, most=most
    )
    return [Chapter(**_decided(row)) async for row in rows]


_TYPES: dict[str, type[Status | Outcome | Cause]] = {
    "status": Status,
    "previous_status": Status,
    "from_status": Status,
    "to_status": Status,
    "outcome": Outcome,
    "cause": Cause,
}


def _decided(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns by name, its enum texts as the vocabulary's members."""
    return {
        name: _TYPES[name](value) if name in _TYPES and value is not None else value
        for name, value in row.items()
    }
