"""Jobs that list addresses and no contacts: how rows of a list find, or become, addresses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg

from db.chunks import AddressColumns, Neighbour
from db.queries import load
from schemas.addresses import Identity
from schemas.errors import LinksChanged, SluiceError

_sql = load("address_lists")

_ONE_ADDRESS_A_KEY = "email_addresses_account_id_match_key_key"


class Resolved(NamedTuple):
    """The rows of a list and their addresses, in one order, and which of those are new.

    `neighbours` are whom the others stand beside, on any contact; of role addresses there are none.
    `known` is what all of them are, without a lock, but for the new ones.
    """

    row_ids: list[int]
    address_ids: list[int]
    new: frozenset[int]
    neighbours: list[Neighbour]
    known: AddressColumns


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
    shared_address_limit: int,
) -> Resolved:
    """Find or make the addresses of a chunk's rows, which leave the list by that. Neighbours are
    read of those that no more contacts hold than the limit.

    Raises LinksChanged when another transaction made one of them at the same moment.
    """
    ids, addresses, match_keys = await _sql.listed(connection, job_id=job_id, row_ids=row_ids)
    if len(ids) != len(row_ids):
        raise SluiceError(f"{len(row_ids) - len(ids)} rows of the list of job {job_id} are gone")
    resolved = await _resolve(
        connection,
        account_id=account_id,
        job_id=job_id,
        row_ids=ids,
        addresses=addresses,
        match_keys=match_keys,
        status=first_status,
        shared_address_limit=shared_address_limit,
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
    shared_address_limit: int,
) -> Resolved:
    """The same for a list that was never kept; a row has the id of its address."""
    addresses, match_keys = zip(*identities, strict=True)
    return await _resolve(
        connection,
        account_id=account_id,
        job_id=job_id,
        row_ids=[None] * len(addresses),
        addresses=addresses,
        match_keys=match_keys,
        status=first_status,
        shared_address_limit=shared_address_limit,
    )


async def _resolve(connection: asyncpg.Connection, **arguments: Any) -> Resolved:
    try:
        row = await _sql.resolve(connection, **arguments)
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != _ONE_ADDRESS_A_KEY:
            raise
        raise LinksChanged(
            "an address of the chunk was made by another transaction meanwhile"
        ) from error
    row_ids, address_ids, new_ids = row[:3]
    neighbours = list(zip(*row[3:7], strict=True))
    return Resolved(row_ids, address_ids, frozenset(new_ids), neighbours, AddressColumns(*row[7:]))


async def refuse(connection: asyncpg.Connection, *, job_id: int, row_id: int, detail: str) -> None:
    """Keep a row that could not be done as refused."""
    await _sql.refuse_listed(connection, job_id=job_id, row_id=row_id, detail=detail)
    await _sql.drop_listed(connection, job_id=job_id, row_ids=[row_id])
