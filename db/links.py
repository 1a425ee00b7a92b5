"""What links in mail that was sent are about."""

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
    """The address that the link is about; None where there is none any more."""
    row = await _sql.get_linked_address(connection, account_id=account_id, address_id=address_id)
    return LinkedAddress(*row) if row else None
