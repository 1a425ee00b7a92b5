"""Store the addresses that jobs list, and find or create the addresses of a chunk."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg

from db.chunk_addresses import AddressColumns, Sibling
from db.errors import detect_concurrent_insert
from db.queries import load
from schemas.addresses import NormalizedAddress
from schemas.errors import SluiceError
from schemas.job_key import JobKey

_sql = load("address_lists")

_BATCH_SIZE = 10_000


class NewAddresses(NamedTuple):
    """Addresses that the account does not know yet, and the ids they will have, as columns."""

    ids: list[int]
    addresses: list[str]
    match_keys: list[str]


class ListLookup(NamedTuple):
    """The items of a list and their addresses, in the same order.

    `new` are the addresses to create. `sibling_links` are the siblings of all that are not role
    addresses. `known` are the other addresses and these siblings, read without a lock.
    """

    item_ids: list[int]
    address_ids: list[int]
    new: NewAddresses
    sibling_links: list[Sibling]
    known: AddressColumns


async def insert_list(
    connection: asyncpg.Connection, job: JobKey, *, addresses: Sequence[NormalizedAddress]
) -> None:
    """Store the addresses that a job lists by COPY; each match key must occur once."""
    await connection.copy_records_to_table(
        "job_addresses",
        columns=("account_id", "job_id", "line", "address", "match_key"),
        records=((*job, line, *address) for line, address in enumerate(addresses, start=1)),
    )


async def freeze_list(connection: asyncpg.Connection, job: JobKey, *, chunk_size: int) -> None:
    """Divide the job's list into chunks of at most `chunk_size` items."""
    await _sql.freeze_list(connection, **job._asdict(), chunk_size=chunk_size)


async def resolve_listed(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    initial_status: str,
    role_address_limit: int,
) -> ListLookup:
    """Find or create the addresses of a chunk's items, and delete the items from the list.

    Siblings are read only for addresses whose person count is at most `role_address_limit`. Raises
    ConcurrentLink if another transaction has just created one of the addresses.
    """
    ids, addresses, match_keys = await _sql.read_list_rows(
        connection, **job._asdict(), item_ids=item_ids
    )
    if len(ids) != len(item_ids):
        missing = len(item_ids) - len(ids)
        raise SluiceError(
            f"{missing} of the addresses that job {job.job_id} lists are missing in `job_addresses`"
        )
    found = await _look_up(
        connection,
        account_id=job.account_id,
        item_ids=ids,
        addresses=addresses,
        match_keys=match_keys,
        role_address_limit=role_address_limit,
    )
    if found.new.ids:
        with detect_concurrent_insert():
            await _sql.insert_listed(
                connection, **job._asdict(), status=initial_status, **found.new._asdict()
            )
    await _sql.delete_listed(connection, **job._asdict(), item_ids=item_ids)
    return found


async def look_up_addresses(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    addresses: Sequence[NormalizedAddress],
    role_address_limit: int,
) -> ListLookup:
    """Look up the addresses of an immediate opt-out, whose list is not stored.

    No item has an id of its own, so each gets its address's. New addresses get an id now and are
    created later.
    """
    texts, match_keys = zip(*addresses, strict=True) if addresses else ((), ())
    return await _look_up(
        connection,
        account_id=account_id,
        item_ids=[None] * len(addresses),
        addresses=texts,
        match_keys=match_keys,
        role_address_limit=role_address_limit,
    )


async def _look_up(connection: asyncpg.Connection, **parameters: Any) -> ListLookup:
    row = await _sql.look_up_listed(connection, **parameters)
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
    """Return the match keys that the account knows, with whether a contact holds the address."""
    known: dict[str, bool] = {}
    # In batches: the driver decodes a response in one go, which blocks the event loop.
    for first in range(0, len(match_keys), _BATCH_SIZE):
        batch = match_keys[first : first + _BATCH_SIZE]
        rows = _sql.find_known_keys(connection, account_id=account_id, match_keys=batch)
        known |= {row["match_key"]: row["is_held"] async for row in rows}
    return known


async def reject_listed(
    connection: asyncpg.Connection, job: JobKey, *, item_id: int, detail: str
) -> None:
    """Delete a listed address on which its chunk failed; keep it in `import_rejections`."""
    await _sql.reject_listed(connection, **job._asdict(), item_id=item_id, detail=detail)
