"""Jobs that list addresses and no contacts: how rows of a list find, or become, addresses."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from db.queries import load
from schemas.addresses import Identity
from schemas.errors import LinksChanged

_sql = load("address_lists")

_ONE_ADDRESS_A_KEY = "email_addresses_account_id_match_key_key"


class Resolved(NamedTuple):
    """The rows of a list and their addresses, in one order, and which of those are new."""

    row_ids: list[int]
    address_ids: list[int]
    new: frozenset[int]


async def keep_list(
    connection: asyncpg.Connection, *, job_id: int, identities: Sequence[Identity]
) -> None:
    """Keep the addresses that a submitter listed, each identity once, by COPY."""
    await connection.copy_records_to_table(
        "job_addresses",
        columns=("job_id", "line", "address", "match_key"),
        records=((job_id, line, *identity) for line, identity in enumerate(identities, start=1)),
    )


async def freeze_list(connection: asyncpg.Connection, *, job_id: int, chunk_size: int) -> None:
    """Chunks of the rows of the job's list."""
    await _sql.freeze_list(connection, job_id=job_id, chunk_size=chunk_size)


async def resolve_listed(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    row_ids: Sequence[int],
    first_status: str,
) -> Resolved:
    """Find or make the addresses of a chunk's rows, which leave the list by that.

    Raises LinksChanged when another transaction made one of them at the same moment.
    """
    ids, addresses, match_keys = await _sql.listed(connection, job_id=job_id, row_ids=row_ids)
    resolved = await _resolve(
        connection, account_id, job_id, ids, addresses, match_keys, first_status
    )
    await _sql.drop_listed(connection, job_id=job_id, row_ids=row_ids)
    return resolved


async def resolve(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    identities: Sequence[Identity],
    first_status: str,
) -> Resolved:
    """The same for a list that was never kept; a row has the id of its address."""
    addresses, match_keys = zip(*identities, strict=True)
    rows: list[int | None] = [None] * len(addresses)
    return await _resolve(connection, account_id, job_id, rows, addresses, match_keys, first_status)


async def _resolve(  # noqa: PLR0917
    connection: asyncpg.Connection,
    account_id: int,
    job_id: int,
    row_ids: Sequence[int | None],
    addresses: Sequence[str],
    match_keys: Sequence[str],
    first_status: str,
) -> Resolved:
    try:
        row = await _sql.resolve(
            connection,
            account_id=account_id,
            job_id=job_id,
            row_ids=row_ids,
            addresses=addresses,
            match_keys=match_keys,
            status=first_status,
        )
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _ONE_ADDRESS_A_KEY:
            raise
        raise LinksChanged(
            "an address of the chunk was made by another transaction meanwhile"
        ) from error
    return Resolved(row["row_ids"], row["address_ids"], frozenset(row["new_ids"]))


async def refuse(connection: asyncpg.Connection, *, job_id: int, row_id: int, detail: str) -> None:
    """Keep a row that could not be done as refused."""
    await _sql.refuse_listed(connection, job_id=job_id, row_id=row_id, detail=detail)
    await _sql.drop_listed(connection, job_id=job_id, row_ids=[row_id])
