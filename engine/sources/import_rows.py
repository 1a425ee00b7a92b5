"""How a chunk of an import's rows becomes contacts, or is recognized as contacts there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from actions.rules.recognition import recognize
from db import chunk_addresses, import_chunks
from db.import_chunks import CreatedRows, KnownAddressColumns
from db.job_progress import JobToWork
from schemas.chunk_rows import Link
from schemas.recognition import RecognitionResult
from schemas.statuses import Status

MAX_CONTACTS_TO_RECOGNIZE = 1_000
"""An address that more contacts hold than this recognizes nobody: all of them would be read."""


@dataclass(frozen=True, slots=True)
class ImportedRows:
    """What an import's rows came to: what was made, the rows that were recognized, and the statuses
    that the file states, by address.
    """

    made: CreatedRows = field(default_factory=lambda: CreatedRows({}, None, []))
    recognized: RecognitionResult = field(default_factory=RecognitionResult)
    stated: Mapping[int, Status] = field(default_factory=dict)

    def row_links(self, links: list[Link]) -> list[Link] | None:
        """Return the links that rows of the file stand for; None where all do."""
        fields = self.recognized.fields
        if not fields:
            return None
        return [link for link in links if link[0] not in fields or link[1] in fields[link[0]]]


async def create_contacts(
    connection: asyncpg.Connection,
    *,
    job: JobToWork,
    item_ids: Sequence[int],
    shared_address_limit: int,
    initial_status: Status,
    initial_statuses_by_stated: Mapping[str, str],
) -> ImportedRows:
    """Make the contacts, addresses and links of a chunk's rows, and remove the rows.

    A new address gets `initial_status`, or what `initial_statuses_by_stated` has for the status
    that the file states, if it is to be read. Raises ConcurrentLink when another transaction made
    one of them at the same moment.
    """
    known = await import_chunks.lock_known_addresses(
        connection, job.key, item_ids=item_ids, shared_address_limit=shared_address_limit
    )
    recognized = await _recognize_rows(connection, job, item_ids, known)
    made = await import_chunks.create_contacts(
        connection,
        job.key,
        item_ids=item_ids,
        known=known,
        recognized=recognized,
        initial_status=initial_status,
        initial_statuses_by_stated=initial_statuses_by_stated,
        tag=job.params.get("tag"),
    )
    stated = {}
    if initial_statuses_by_stated:
        stated = await import_chunks.read_stated_statuses(connection, job.key, item_ids=item_ids)
    await import_chunks.delete_rows(connection, job.key, item_ids=item_ids)
    return ImportedRows(made, recognized, {id_: Status(status) for id_, status in stated.items()})


async def _recognize_rows(
    connection: asyncpg.Connection,
    job: JobToWork,
    item_ids: Sequence[int],
    known: KnownAddressColumns,
) -> RecognitionResult:
    """Tell which rows are about contacts that the account, or the chunk, has."""
    if not (known.ids or known.repeated or known.with_ids):
        return RecognitionResult()
    rows = await import_chunks.read_rows_to_recognize(
        connection, job.key, item_ids=item_ids, match_keys=[*known.match_keys, *known.repeated]
    )
    candidates = await import_chunks.find_candidates(
        connection,
        account_id=job.account_id,
        address_ids=[
            id_
            for id_, contact_count in zip(known.ids, known.contact_counts, strict=True)
            if 0 < contact_count <= MAX_CONTACTS_TO_RECOGNIZE
        ],
        external_ids=[row.external_id for row in rows if row.external_id is not None],
    )
    roles = zip(known.match_keys, known.roles, strict=True)
    return recognize(rows, candidates, frozenset(key for key, is_role in roles if is_role))


async def read_row_links(
    connection: asyncpg.Connection,
    account_id: int,
    item_ids: Sequence[int],
    imported: ImportedRows,
) -> list[Link]:
    """Return the links of the chunk's contacts, in order.

    The links of a contact that a row was recognized as are under the row, by which its results go.
    """
    matches = imported.recognized.matches
    if not matches:
        return imported.made.links
    links = await chunk_addresses.read_links(
        connection, account_id, [*set(matches.values()).union(item_ids)]
    )
    of_contact: dict[int, list[Link]] = {}
    for link in links:
        of_contact.setdefault(link[0], []).append(link)
    found = [link for id_ in item_ids for link in of_contact.get(id_, ())]
    found += [
        (item_id, number, address_id)
        for item_id, contact_id in matches.items()
        for _, number, address_id in of_contact[contact_id]
    ]
    return sorted(found)
