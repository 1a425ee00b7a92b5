"""Find contacts by tag, by import and by the statuses of their addresses."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.statuses import Status

_sql = load("contacts")

MAX_SCANNED_CONTACTS = 10_000
"""The most contacts that one page scans."""

_UNENGAGED = (Status.UNENGAGED_MARKETABLE, Status.UNENGAGED_NON_MARKETABLE)


class ContactFilter(NamedTuple):
    """Which contacts of an account to find: those that meet all conditions that are not None.

    One address, in one of the `fields`, must have one of the `statuses`. The same address must have
    become unengaged before `unengaged_before`. An empty list of statuses matches no contact, as in
    a selection.
    """

    account_id: int
    fields: Sequence[int]
    tag_id: int | None = None
    import_job: int | None = None
    statuses: Sequence[Status] | None = None
    unengaged_before: datetime | None = None


class Contact(NamedTuple):
    """A contact; each of its `emails` is an object with field, address and status."""

    id: int
    given_name: str | None
    family_name: str | None
    company: str | None
    emails: list[dict[str, Any]]


async def get_tag_id(connection: asyncpg.Connection, account_id: int, tag: str) -> int | None:
    """Return the id of the account's tag with exactly this name; None if there is no such tag."""
    tag_id: int | None = await _sql.get_tag_id(connection, account_id=account_id, tag=tag)
    return tag_id


async def has_tag(connection: asyncpg.Connection, account_id: int, tag: str) -> bool:
    """Tell whether the account has a tag with exactly this name."""
    return await get_tag_id(connection, account_id, tag) is not None


async def list_tags(connection: asyncpg.Connection, account_id: int, *, limit: int) -> list[str]:
    """Return the names of up to `limit` tags of the account, in alphabetical order."""
    rows = _sql.list_tags(connection, account_id=account_id, limit=limit)
    return [row["name"] async for row in rows]


async def find_contacts(
    connection: asyncpg.Connection, filter_: ContactFilter, *, after: int, limit: int
) -> tuple[list[Contact], int | None]:
    """Return up to `limit` contacts with ids above `after`, and the next page's `after`.

    The latter is None on the last page. A page scans at most `MAX_SCANNED_CONTACTS` contacts, so
    it may be empty without being the last.
    """
    row = await _sql.find_contact_ids(
        connection,
        **filter_._asdict(),
        narrowed=filter_.statuses is not None or filter_.unengaged_before is not None,
        unengaged=_UNENGAGED,
        max_scanned=MAX_SCANNED_CONTACTS,
        after=after,
        limit=limit,
    )
    ids = row["ids"]
    next_after = None
    if len(ids) == limit:
        next_after = ids[-1]
    elif row["scanned"] == MAX_SCANNED_CONTACTS:
        next_after = row["last"]
    rows = _sql.read_contacts(connection, account_id=filter_.account_id, contact_ids=ids)
    return [Contact(*row) async for row in rows], next_after


async def count_addresses(
    connection: asyncpg.Connection, filter_: ContactFilter
) -> dict[Status, int]:
    """Count the addresses in the filter's fields by status.

    Only a tag and an import narrow the counts. Without either, this reads all addresses of the
    account.
    """
    common = {"account_id": filter_.account_id, "fields": filter_.fields}
    of_import = {**common, "import_job": filter_.import_job}
    if filter_.tag_id is not None:
        rows = _sql.count_addresses_of_tag(connection, **of_import, tag_id=filter_.tag_id)
    elif filter_.import_job is not None:
        rows = _sql.count_addresses_of_import(connection, **of_import)
    else:
        rows = _sql.count_addresses(connection, **common)
    return {Status(row["status"]): row["addresses"] async for row in rows}
