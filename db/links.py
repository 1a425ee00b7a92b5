"""Read what a one-click link is about."""

from typing import NamedTuple

import asyncpg

from db.queries import load

_sql = load("links")


class LinkedAddress(NamedTuple):
    """The address that a link is about, and the name of its account."""

    account: str
    address: str


async def get_linked_address(
    connection: asyncpg.Connection, *, account_id: int, address_id: int
) -> LinkedAddress | None:
    """Return the address that the one-click link is about; None if it no longer exists."""
    row = await _sql.get_linked_address(connection, account_id=account_id, address_id=address_id)
    return LinkedAddress(*row) if row else None
