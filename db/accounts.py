"""Accounts in Postgres."""

from datetime import datetime
from typing import NamedTuple

import asyncpg

from db.queries import load

_sql = load("accounts")


class Account(NamedTuple):
    """One customer of the service."""

    id: int
    name: str
    created_at: datetime


async def get_account_id(connection: asyncpg.Connection, name: str) -> int | None:
    """Return the id of the account called `name`, or None if there is no such account."""
    found: int | None = await _sql.get_account_id(connection, name=name)
    return found


async def create_account(connection: asyncpg.Connection, name: str) -> int | None:
    """Create an account and return its id; None if the name is taken.

    Raises asyncpg.CheckViolationError for a name with characters that are not allowed.
    """
    created: int | None = await _sql.create_account(connection, name=name)
    return created


async def list_accounts(connection: asyncpg.Connection) -> list[Account]:
    """Every account, by name."""
    return [Account(*row) async for row in _sql.list_accounts(connection)]
