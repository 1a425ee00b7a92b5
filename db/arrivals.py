"""How the uploaded rows of an import become contacts."""

from collections.abc import Sequence

import asyncpg

from db.made_once import made_once
from db.queries import load
from schemas.staging import CELL_REASONS

_sql = load("arrivals")


async def arrive(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    contact_ids: Sequence[int],
    first_status: str,
    tag: str | None,
    shared_address_limit: int,
) -> frozenset[int]:
    """Make the contacts, addresses and links of a chunk; gives the addresses that are new.

    The known addresses among them are locked afterwards. Raises LinksChanged when another
    transaction made one of the addresses at the same moment.
    """
    rows = {"job_id": job_id, "contact_ids": contact_ids}
    await _sql.make_contacts(connection, account_id=account_id, **rows)
    with made_once():
        new = await _sql.make_links(
            connection,
            account_id=account_id,
            status=first_status,
            shared_address_limit=shared_address_limit,
            **rows,
        )
    await _sql.make_contact_tags(connection, account_id=account_id, tag=tag, **rows)
    await _sql.drop_rows(connection, **rows)
    return frozenset(new)


async def holders_by_the_end(
    connection: asyncpg.Connection, *, account_id: int, job_id: int, address_ids: Sequence[int]
) -> dict[int, int]:
    """How many contacts will hold the addresses when the whole import is done."""
    rows = _sql.holders_by_the_end(
        connection, account_id=account_id, job_id=job_id, address_ids=address_ids
    )
    return {row[0]: row[1] async for row in rows}


async def count_role_holders(
    connection: asyncpg.Connection, *, account_id: int, job_id: int, shared_address_limit: int
) -> None:
    """Count who holds the role addresses that the import brought."""
    of_import = {
        "account_id": account_id,
        "job_id": job_id,
        "shared_address_limit": shared_address_limit,
    }
    await _sql.lock_role_addresses(connection, **of_import)
    await _sql.count_role_holders(connection, **of_import)


async def links_beside_spared(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    job_id: int,
    own_right_statuses: Sequence[str],
    shared_address_limit: int,
) -> list[tuple[int, int, int, int]]:
    """(contact, field, address, source): whom an opt-out has to reach after all."""
    rows = _sql.links_beside_spared(
        connection,
        account_id=account_id,
        job_id=job_id,
        own_right_statuses=own_right_statuses,
        shared_address_limit=shared_address_limit,
    )
    return [tuple(row) async for row in rows]


async def make_tags(
    connection: asyncpg.Connection, *, account_id: int, job_id: int, tag: str | None
) -> None:
    """Make the tags that the import brings."""
    await _sql.make_tags(connection, account_id=account_id, job_id=job_id, tag=tag)


async def refuse(
    connection: asyncpg.Connection, *, job_id: int, contact_id: int, detail: str
) -> list[int]:
    """Keep a row that cannot become a contact as refused; gives the fields it had addresses in."""
    fields: list[int] = await _sql.fields_of_row(connection, job_id=job_id, contact_id=contact_id)
    await _sql.refuse_row(connection, job_id=job_id, contact_id=contact_id, detail=detail)
    await _sql.drop_rows(connection, job_id=job_id, contact_ids=[contact_id])
    return fields


async def refused_rows(connection: asyncpg.Connection, job_id: int) -> int:
    """How many rows of the import were refused, single cells not counted."""
    count: int = await _sql.refused_rows(
        connection, job_id=job_id, cell_reasons=sorted(CELL_REASONS)
    )
    return count
