"""Finding contacts by what their addresses are, fast however many an account has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.statuses import Status

_sql = load("contacts")

MAX_SCANNED_CONTACTS = 10_000
"""So many contacts are looked through for those that were asked for, and no more for a page."""

_UNENGAGED = (Status.UNENGAGED_MARKETABLE, Status.UNENGAGED_NON_MARKETABLE)


class ContactFilter(NamedTuple):
    """Which contacts to find: those of an account that meet all given conditions.

    One address of the contact, in one of the `fields`, must have one of the `statuses`, and be
    known to be without engagement since before `unengaged_before`. As in a job's selection, None is
    no condition, and an empty list of statuses matches no contact.
    """

    account_id: int
    fields: Sequence[int]
    tag_id: int | None = None
    import_job: int | None = None
    statuses: Sequence[Status] | None = None
    unengaged_before: datetime | None = None


class Contact(NamedTuple):
    """A contact, and what it holds: objects of field, address and status."""

    id: int
    given_name: str | None
    family_name: str | None
    company: str | None
    emails: list[dict[str, Any]]


async def get_tag_id(connection: asyncpg.Connection, account_id: int, tag: str) -> int | None:
    """Return the id of the account's tag with exactly this name; None if there is no such tag."""
    found: int | None = await _sql.get_tag_id(connection, account_id=account_id, tag=tag)
    return found


async def tag_exists(connection: asyncpg.Connection, account_id: int, tag: str) -> bool:
    """Whether the account has a tag of exactly this name."""
    found: bool = await _sql.tag_exists(connection, account_id=account_id, tag=tag)
    return found


async def list_tags(connection: asyncpg.Connection, account_id: int, *, limit: int) -> list[str]:
    """Up to `limit` of the account's tags, by name."""
    rows = _sql.list_tags(connection, account_id=account_id, limit=limit)
    return [row["name"] async for row in rows]


async def find_contacts(
    connection: asyncpg.Connection, filter_: ContactFilter, *, after: int, limit: int
) -> tuple[list[Contact], int | None]:
    """Return up to `limit` contacts with ids above `after`, in order, and where the next page
    begins.

    At limit `MAX_SCANNED_CONTACTS` contacts are examined: a page may have few contacts, or be
    empty, without being the last.
    """
    row = await _sql.find_contact_ids(
        connection,
        account_id=filter_.account_id,
        tag_id=filter_.tag_id,
        import_job=filter_.import_job,
        narrowed=filter_.statuses is not None or filter_.unengaged_before is not None,
        fields=filter_.fields,
        statuses=filter_.statuses,
        unengaged=_UNENGAGED,
        unengaged_before=filter_.unengaged_before,
        looked_at=MAX_SCANNED_CONTACTS,
        after=after,
        limit=limit,
    )
    ids = row["ids"]
    following = None
    if len(ids) == limit:
        following = ids[-1]
    elif row["looked_at"] == MAX_SCANNED_CONTACTS:
        following = row["last"]
    rows = _sql.read_contacts(connection, account_id=filter_.account_id, contact_ids=ids)
    return [Contact(*row) async for row in rows], following


async def count_addresses(
    connection: asyncpg.Connection, filter_: ContactFilter
) -> dict[Status, int]:
    """Count the addresses by status.

    With a tag or an import, only contacts that have it count, and one of the fields. Without
    either, the whole account is counted, which reads all of its addresses.
    """
    given = {
        "account_id": filter_.account_id,
        "import_job": filter_.import_job,
        "fields": filter_.fields,
    }
    if filter_.tag_id is not None:
        rows = _sql.count_addresses_of_tag(connection, **given, tag_id=filter_.tag_id)
    elif filter_.import_job is not None:
        rows = _sql.count_addresses_of_import(connection, **given)
    else:
        rows = _sql.count_addresses(
            connection, account_id=filter_.account_id, fields=filter_.fields
        )
    return {Status(row["status"]): row["addresses"] async for row in rows}
