"""How a chunk of an import's rows becomes contacts, or is recognised as contacts there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from actions.rules.chunk import Link
from actions.rules.recognition import recognise
from db import chunks, import_chunks
from db.import_chunks import KnownKeys, Made
from db.progress import JobToWork
from schemas.recognition import Recognised
from schemas.statuses import Status

RECOGNISED_THROUGH = 1_000
"""An address that more contacts hold than this recognises nobody: all of them would be read."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What an import's rows came to: what was made, the rows that were recognised, and the statuses
    that the file states, by address.
    """

    made: Made = field(default_factory=lambda: Made({}, None, []))
    recognised: Recognised = field(default_factory=Recognised)
    stated: Mapping[int, Status] = field(default_factory=dict)

    def of_rows(self, links: list[Link]) -> list[Link] | None:
        """Return the links that rows of the file stand for; None where all do."""
        fields = self.recognised.fields
        if not fields:
            return None
        return [link for link in links if link[0] not in fields or link[1] in fields[link[0]]]


async def arrive(
    connection: asyncpg.Connection,
    *,
    job: JobToWork,
    contact_ids: Sequence[int],
    shared_address_limit: int,
    first_status: Status,
    stated_first: Mapping[str, str],
) -> Arrived:
    """Make the contacts, addresses and links of a chunk's rows, and remove the rows.

    A new address gets `first_status`, or what `stated_first` has for the status that the file
    states, if it is to be read. Raises LinksChanged when another transaction made one of them at
    the same moment.
    """
    known = await import_chunks.lock_known(
        connection,
        account_id=job.account_id,
        job_id=job.id,
        contact_ids=contact_ids,
        shared_address_limit=shared_address_limit,
    )
    recognised = await _recognise(connection, job, contact_ids, known)
    made = await import_chunks.arrive(
        connection,
        account_id=job.account_id,
        job_id=job.id,
        contact_ids=contact_ids,
        known=known,
        recognised=recognised,
        first_status=first_status,
        stated_first=stated_first,
        tag=job.params.get("tag"),
    )
    stated = {}
    if stated_first:
        stated = await import_chunks.stated_statuses(
            connection, account_id=job.account_id, job_id=job.id, contact_ids=contact_ids
        )
    await import_chunks.drop_rows(connection, job_id=job.id, contact_ids=contact_ids)
    return Arrived(made, recognised, {id_: Status(status) for id_, status in stated.items()})


async def _recognise(
    connection: asyncpg.Connection, job: JobToWork, contact_ids: Sequence[int], known: KnownKeys
) -> Recognised:
    """Tell which rows are about contacts that the account, or the chunk, has."""
    if not (known.ids or known.repeated or known.with_ids):
        return Recognised()
    rows = await import_chunks.rows_to_recognise(
        connection,
        job_id=job.id,
        contact_ids=contact_ids,
        match_keys=[*known.match_keys, *known.repeated],
    )
    candidates = await import_chunks.candidates(
        connection,
        account_id=job.account_id,
        address_ids=[
            id_
            for id_, holders in zip(known.ids, known.holders, strict=True)
            if 0 < holders <= RECOGNISED_THROUGH
        ],
        external_ids=[row.external_id for row in rows if row.external_id is not None],
    )
    roles = zip(known.match_keys, known.roles, strict=True)
    return recognise(rows, candidates, frozenset(key for key, is_role in roles if is_role))


async def links_of_rows(
    connection: asyncpg.Connection,
    account_id: int,
    contact_ids: Sequence[int],
    arrived: Arrived,
) -> list[Link]:
    """Return the links of the chunk's contacts, in order.

    The links of a contact that a row was recognised as are under the row, by which its results go.
    """
    matches = arrived.recognised.matches
    if not matches:
        return arrived.made.links
    links = await chunks.links_of_contacts(
        connection, account_id, [*set(matches.values()).union(contact_ids)]
    )
    of_contact: dict[int, list[Link]] = {}
    for link in links:
        of_contact.setdefault(link[0], []).append(link)
    found = [link for id_ in contact_ids for link in of_contact.get(id_, ())]
    found += [
        (row_id, number, address_id)
        for row_id, contact_id in matches.items()
        for _, number, address_id in of_contact[contact_id]
    ]
    return sorted(found)
