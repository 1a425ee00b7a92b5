"""Read the links and addresses of a chunk, and update its addresses."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

import asyncpg

from db.queries import load
from schemas.chunk_rows import Change, Link
from schemas.job_key import JobKey

_sql = load("chunk_addresses")


class AddressColumns(NamedTuple):
    """Addresses as columns in the same order, as they were at `decided_at`.

    `sources` are the addresses that statuses were propagated from, and `job_ids` the jobs that set
    the statuses. Each change of a row gives it another version.
    """

    ids: list[int]
    statuses: list[str]
    sources: list[int | None]
    job_ids: list[int | None]
    person_counts: list[int]
    versions: list[int]
    decided_at: datetime


Sibling: TypeAlias = tuple[int, int, int, int]
"""(source, contact, field, address): an address, and a sibling on one contact."""


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

    Both are read at the same moment. Nothing is locked.
    """
    row = await _sql.read_links_and_addresses(
        connection, account_id=account_id, contact_ids=contact_ids
    )
    return list(zip(*row[:3], strict=True)), AddressColumns(*row[3:])


async def find_existing_contacts(
    connection: asyncpg.Connection, account_id: int, contact_ids: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the ids that are contacts of the account, and which of these hold an address."""
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
    role_address_limit: int,
) -> list[Sibling]:
    """Return the siblings of the addresses that at least `min_contacts` contacts hold.

    Role addresses are left out: those with a person count of more than `role_address_limit`.
    """
    rows = _sql.read_siblings(
        connection,
        account_id=account_id,
        address_ids=address_ids,
        min_contacts=min_contacts,
        role_address_limit=role_address_limit,
    )
    return [tuple(row) async for row in rows]


async def read_addresses(
    connection: asyncpg.Connection, account_id: int, address_ids: Sequence[int]
) -> AddressColumns:
    """Return the addresses without locking them."""
    row = await _sql.read_addresses(connection, account_id=account_id, address_ids=address_ids)
    return AddressColumns(*row)


async def lock_addresses(
    connection: asyncpg.Connection,
    account_id: int,
    address_ids: Sequence[int],
    *,
    role_address_limit: int | None = None,
) -> AddressColumns:
    """Lock the addresses in order of id, and return them as they are once locked.

    With a limit, role addresses are left out: those with a person count of more than the limit.
    """
    row = await _sql.lock_addresses(
        connection,
        account_id=account_id,
        address_ids=address_ids,
        role_address_limit=role_address_limit,
    )
    return AddressColumns(*row)


async def find_addresses_with_opted_out_sibling(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    address_ids: Sequence[int],
    own_right_statuses: Sequence[str],
    role_address_limit: int,
) -> list[int]:
    """Return the addresses with a sibling whose opt-out would be propagated to them.

    `own_right_statuses` are the statuses of opt-outs in their own right. Contacts that the job
    itself creates do not count.
    """
    return list(
        await _sql.find_addresses_with_opted_out_sibling(
            connection,
            **job._asdict(),
            address_ids=address_ids,
            own_right_statuses=own_right_statuses,
            role_address_limit=role_address_limit,
        )
    )


async def update_addresses(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    decided_at: datetime,
    changes: Mapping[int, Change],
    versions: Mapping[int, int],
) -> bool:
    """Set the new statuses; `changes` maps an address to (from_status, to_status, source address).

    Return False if an address no longer has its version, and so was not updated. The caller must
    then roll the transaction back.

    Nearly always all changes are alike. Then only the ids and the distinct versions are sent, and
    any of these versions is accepted for each address. This is safe only if one statement, after
    all locks were taken, read the versions of all unlocked addresses. A later change of any of them
    then has a version that is not among these.
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
