"""Accounts, and what revoking one of their keys or hooks returns."""

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


class Revocation(NamedTuple):
    """The account of a revoked key or hook; `now` is False if it was revoked before."""

    account_id: int
    now: bool


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
    """Return all accounts, ordered by name."""
    return [Account(*row) async for row in _sql.list_accounts(connection)]
