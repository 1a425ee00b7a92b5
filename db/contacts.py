"""Finding contacts by what their addresses are, fast however many an account has."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from db.queries import load
from schemas.statuses import Status

_sql = load("contacts")

CONTACTS_LOOKED_AT = 10_000
"""So many contacts are looked through for those that were asked for, and no more for a page."""

_UNENGAGED = (Status.UNENGAGED_MARKETABLE, Status.UNENGAGED_NON_MARKETABLE)


class Sought(NamedTuple):
    """Which contacts are looked for; those of an account that meet all that is given.

    One address of the contact, in one of the `fields`, has to be of one of the `statuses`, and
    known to be without engagement since before `unengaged_before`. As in a job's selection, what
    is None is no condition, and no status at all is met by nobody.
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


async def tag_id(connection: asyncpg.Connection, account_id: int, tag: str) -> int | None:
    """The id of the account's tag of exactly this name."""
    found: int | None = await _sql.tag_id(connection, account_id=account_id, tag=tag)
    return found


async def contacts_page(
    connection: asyncpg.Connection, sought: Sought, *, after: int, most: int
) -> tuple[list[Contact], int | None]:
    """Up to `most` contacts with ids above `after`, in order, and after whom the next page begins.

    `CONTACTS_LOOKED_AT` contacts are looked through at most: a page may have few, or none, and yet
    not be the last.
    """
    row = await _sql.find(
        connection,
        account_id=sought.account_id,
        tag_id=sought.tag_id,
        import_job=sought.import_job,
        narrowed=sought.statuses is not None or sought.unengaged_before is not None,
        fields=sought.fields,
        statuses=sought.statuses,
        unengaged=_UNENGAGED,
        unengaged_before=sought.unengaged_before,
        looked_at=CONTACTS_LOOKED_AT,
        after=after,
        most=most,
    )
    ids = row["ids"]
    following = None
    if len(ids) == most:
        following = ids[-1]
    elif row["looked_at"] == CONTACTS_LOOKED_AT:
        following = row["last"]
    rows = _sql.shown(connection, account_id=sought.account_id, contact_ids=ids)
    return [Contact(*row) async for row in rows], following


async def count_addresses(connection: asyncpg.Connection, sought: Sought) -> dict[Status, int]:
    """How many addresses of each status the contacts hold, in one of the fields, who have the tag,
    and whom the import brought; without either, those of the whole account, which takes a look at
    all of them.
    """
    given = {
        "account_id": sought.account_id,
        "import_job": sought.import_job,
        "fields": sought.fields,
    }
    if sought.tag_id is not None:
        rows = _sql.count_addresses_of_tag(connection, **given, tag_id=sought.tag_id)
    elif sought.import_job is not None:
        rows = _sql.count_addresses_of_import(connection, **given)
    else:
        rows = _sql.count_addresses(connection, account_id=sought.account_id, fields=sought.fields)
    return {Status(row["status"]): row["addresses"] async for row in rows}
