"""Jobs that list addresses and no contacts: how rows of a list find, or become, addresses."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from db.chunk_addresses import AddressColumns, Sibling
from db.errors import made_once
from db.queries import load
from schemas.addresses import NormalizedAddress
from schemas.errors import SluiceError
from schemas.job_key import JobKey

_sql = load("address_lists")

_BATCH_SIZE = 10_000


class NewAddresses(NamedTuple):
    """Addresses that an account does not know, with the ids that they are to have, as columns."""

    ids: list[int]
    addresses: list[str]
    match_keys: list[str]


class ListLookup(NamedTuple):
    """The rows of a list and their addresses, in one order, and which of those are new.

    `sibling_links` are the siblings of the addresses, on any contact, except of role addresses.
    `known` is the present state of all addresses but the new ones, read without a lock.
    """

    item_ids: list[int]
    address_ids: list[int]
    new: NewAddresses
    sibling_links: list[Sibling]
    known: AddressColumns


async def insert_list(
    connection: asyncpg.Connection, job: JobKey, *, identities: Sequence[NormalizedAddress]
) -> None:
    """Keep the addresses that a submitter listed, each identity once, by COPY."""
    await connection.copy_records_to_table(
        "job_addresses",
        columns=("account_id", "job_id", "line", "address", "match_key"),
        records=(
            (job.account_id, job.job_id, line, *identity)
            for line, identity in enumerate(identities, start=1)
        ),
    )


async def freeze_list(connection: asyncpg.Connection, job: JobKey, *, chunk_size: int) -> None:
    """Chunks of the rows of the job's list."""
    await _sql.freeze_list(connection, **job._asdict(), chunk_size=chunk_size)


async def resolve_listed(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    initial_status: str,
    shared_address_limit: int,
) -> ListLookup:
    """Find or create the addresses of a chunk's rows, which leave the list thereby.

    Siblings are read of addresses that at most as many contacts hold as the limit. Raises
    ConcurrentLink if another transaction created one of the addresses at the same time.
    """
    ids, addresses, match_keys = await _sql.read_list_rows(
        connection, **job._asdict(), item_ids=item_ids
    )
    if len(ids) != len(item_ids):
        raise SluiceError(
            f"{len(item_ids) - len(ids)} rows of the list of job {job.job_id} are gone"
        )
    row = await _sql.look_up_listed(
        connection,
        account_id=job.account_id,
        item_ids=ids,
        addresses=addresses,
        match_keys=match_keys,
        shared_address_limit=shared_address_limit,
    )
    found = _to_lookup(row)
    if found.new.ids:
        with made_once():
            await _sql.insert_listed(
                connection,
                **job._asdict(),
                status=initial_status,
                **found.new._asdict(),
            )
    await _sql.delete_listed(connection, **job._asdict(), item_ids=item_ids)
    return found


async def look_up_addresses(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    identities: Sequence[NormalizedAddress],
    shared_address_limit: int,
) -> ListLookup:
    """Look up the addresses of a list that is stored nowhere, for one immediate job.

    A row carries the id of its address; new addresses are not created yet. Return None if no
    account has this name.
    """
    addresses, match_keys = zip(*identities, strict=True) if identities else ((), ())
    row = await _sql.look_up_listed(
        connection,
        account_id=account_id,
        item_ids=[None] * len(addresses),
        addresses=addresses,
        match_keys=match_keys,
        shared_address_limit=shared_address_limit,
    )
    return _to_lookup(row)


def _to_lookup(row: asyncpg.Record) -> ListLookup:
    return ListLookup(
        item_ids=row[0],
        address_ids=row[1],
        new=NewAddresses(*row[2:5]),
        sibling_links=list(zip(*row[5:9], strict=True)),
        known=AddressColumns(*row[9:]),
    )


async def find_known_keys(
    connection: asyncpg.Connection, account_id: int, match_keys: Sequence[str]
) -> dict[str, bool]:
    """Return the keys of addresses that the account knows, and whether a contact holds each."""
    known: dict[str, bool] = {}
    # The driver reads each answer in one piece, in which the event loop stands still.
    for first in range(0, len(match_keys), _BATCH_SIZE):
        some = match_keys[first : first + _BATCH_SIZE]
        rows = _sql.find_known_keys(connection, account_id=account_id, match_keys=some)
        known |= {row["match_key"]: row["is_held"] async for row in rows}
    return known


async def reject_listed(
    connection: asyncpg.Connection, job: JobKey, *, item_id: int, detail: str
) -> None:
    """Keep a row that could not be done as refused."""
    await _sql.reject_listed(connection, **job._asdict(), item_id=item_id, detail=detail)
    await _sql.delete_listed(connection, **job._asdict(), item_ids=[item_id])
