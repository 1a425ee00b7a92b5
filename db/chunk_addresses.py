"""What a chunk reads and changes of contacts and their addresses."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import asyncpg

from db.queries import load
from schemas.chunk_rows import Change, Link
from schemas.job_key import JobKey

_sql = load("chunk_addresses")


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


Sibling: TypeAlias = tuple[int, int, int, int]
"""(source, contact, field, address): an address, and one that a contact holds beside it."""


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
    """Those of the ids that are contacts of the account, and those of them that hold an address."""
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
    """Whom addresses that so many contacts hold stand beside, on any contact."""
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
    """Lock the addresses, in id order, and read them as they are then: all of them, or those that
    no more contacts hold than the limit.
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
    job: JobKey,
    *,
    address_ids: Sequence[int],
    own_right_statuses: Sequence[str],
    shared_address_limit: int,
) -> list[int]:
    """Those of the addresses that stand beside one whose own opt-out spreads."""
    found: list[int] = await _sql.find_with_opted_out_sibling(
        connection,
        **job._asdict(),
        address_ids=address_ids,
        own_right_statuses=own_right_statuses,
        shared_address_limit=shared_address_limit,
    )
    return found


async def update_addresses(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    decided_at: datetime,
    changes: Mapping[int, Change],
    versions: Mapping[int, int],
) -> bool:
    """Give the addresses their new status: id to (from_status, to_status, source address).

    One that is not of its version any more is left alone; then this is False, and the transaction
    is to be rolled back. Where all changes are alike, as nearly always, a list of ids is all that
    has to be sent for them, and the few versions there are: of addresses that are not locked they
    have to come from one statement, after all locks, so that none of them is that of a later
    change to another address.
    """
    if not changes:
        return True
    common = {**job._asdict(), "decided_at": decided_at}
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
