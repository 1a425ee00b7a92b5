"""Create contacts from the rows of an import's chunk, and store which rows are recognized."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import asyncpg

from db.errors import detect_concurrent_insert
from db.queries import load
from schemas.job_key import JobKey
from schemas.recognition import ContactCandidate, RecognitionResult, RowToRecognize

_sql = load("import_chunks")
_end_sql = load("import_ends")


class KnownAddressColumns(NamedTuple):
    """The addresses of a chunk that the account knows, as columns in the same order.

    `roles` says which are role addresses. Of these, `contact_counts` may be too low if it is above
    `max_contacts`, and `repeat_counts` may be too low. `repeated` are other match keys, those that
    are in several rows of the chunk. `has_external_ids` says that a row has an external id.
    """

    ids: list[int]
    match_keys: list[str]
    roles: list[bool]
    contact_counts: list[int]
    repeat_counts: list[int]
    repeated: list[str]
    has_external_ids: bool


class CreatedRows(NamedTuple):
    """What a chunk has created.

    `person_counts` has the new addresses, which all have the same `version`. Each link is (contact,
    field, address).
    """

    person_counts: dict[int, int]
    version: int | None
    links: list[tuple[int, int, int]]


async def lock_known_addresses(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    role_address_limit: int,
    max_contacts: int,
) -> KnownAddressColumns:
    """Return the known addresses of a chunk's rows, and lock those that are not role addresses."""
    row = await _sql.lock_known_addresses(
        connection,
        **job._asdict(),
        item_ids=item_ids,
        role_address_limit=role_address_limit,
        max_contacts=max_contacts,
    )
    return KnownAddressColumns(*row)


async def read_rows_to_recognize(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    match_keys: Sequence[str],
) -> list[RowToRecognize]:
    """Return the rows of a chunk that have one of the match keys, or an external id."""
    rows = _sql.read_rows_to_recognize(
        connection, **job._asdict(), item_ids=item_ids, match_keys=match_keys
    )
    return [RowToRecognize(*row) async for row in rows]


async def find_candidates(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    address_ids: Sequence[int],
    external_ids: Sequence[str],
) -> list[ContactCandidate]:
    """Return the contacts that a row may be about.

    They hold one of the addresses, have one of the external ids, or share an address with a contact
    that has one of these ids.
    """
    if not address_ids and not external_ids:
        return []
    rows = _sql.find_candidates(
        connection, account_id=account_id, address_ids=address_ids, external_ids=external_ids
    )
    candidates = []
    async for row in rows:
        columns = dict(row)
        held = zip(columns.pop("fields"), columns.pop("match_keys"), strict=True)
        candidates.append(ContactCandidate(**columns, match_keys=dict(held)))
    return candidates


async def create_contacts(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    known: KnownAddressColumns,
    recognized: RecognitionResult,
    initial_status: str,
    initial_statuses_by_stated: Mapping[str, str],
    tag: str | None,
) -> CreatedRows:
    """Create the contacts, addresses and links of a chunk, and update recognized contacts.

    A new address gets `initial_status`. If the file states a status for it, it gets what
    `initial_statuses_by_stated` has for that status. Each contact of the chunk gets the `tag`.
    Raises ConcurrentLink if another transaction has just created one of the addresses or contacts.
    """
    additions = recognized.additions
    new_rows = {
        **job._asdict(),
        "item_ids": [id_ for id_ in item_ids if id_ not in recognized.matches],
        "repeats": list(recognized.repeats),
        "without_external_id": list(recognized.without_external_id),
    }
    added = {
        "added_item_ids": [each.item_id for each in additions],
        "added_contact_ids": [each.contact_id for each in additions],
        "added_fields": [each.field for each in additions],
    }
    with detect_concurrent_insert():
        await _sql.insert_contacts(connection, **new_rows)
        ids, person_counts, version, *links = await _sql.insert_links(
            connection,
            status=initial_status,
            stated=list(initial_statuses_by_stated),
            initial_statuses_by_stated=list(initial_statuses_by_stated.values()),
            known_ids=known.ids,
            known_keys=known.match_keys,
            known_roles=known.roles,
            added_keys=[each.match_key for each in additions],
            **added,
            **new_rows,
        )
        await _update_contacts(connection, job.account_id, recognized.updated.values())
    await _store_recognized(connection, job, recognized, added)
    await _sql.insert_contact_tags(
        connection, **job._asdict(), tag=tag, item_ids=item_ids, **_recognized_columns(recognized)
    )
    by_id = dict(zip(ids, person_counts, strict=True))
    return CreatedRows(by_id, version, list(zip(*links, strict=True)))


async def _store_recognized(
    connection: asyncpg.Connection,
    job: JobKey,
    recognized: RecognitionResult,
    added: Mapping[str, Sequence[int]],
) -> None:
    if counting := sorted(recognized.counting):
        await _sql.unmark_repeats(
            connection, account_id=job.account_id, contact_ids=counting, **added
        )
    if recognized.matches:
        await _sql.insert_recognized_rows(
            connection, **job._asdict(), **_recognized_columns(recognized), **added
        )


def _recognized_columns(recognized: RecognitionResult) -> dict[str, list[int]]:
    matches = recognized.matches
    return {"recognized_item_ids": list(matches), "recognized_contact_ids": list(matches.values())}


async def _update_contacts(
    connection: asyncpg.Connection, account_id: int, contacts: Collection[ContactCandidate]
) -> None:
    if contacts:
        await _sql.update_contacts(
            connection,
            account_id=account_id,
            contact_ids=[contact.id for contact in contacts],
            given_names=[contact.given_name for contact in contacts],
            family_names=[contact.family_name for contact in contacts],
            companies=[contact.company for contact in contacts],
            external_ids=[contact.external_id for contact in contacts],
        )


async def read_stated_statuses(
    connection: asyncpg.Connection, job: JobKey, *, item_ids: Sequence[int]
) -> dict[int, str]:
    """Return the strongest status that the file states for each address of the chunk's rows.

    An address without a stated status is left out. Call it once the addresses exist.
    """
    rows = _sql.read_stated_statuses(connection, **job._asdict(), item_ids=item_ids)
    return {address: status async for address, status in rows}


async def delete_rows(
    connection: asyncpg.Connection, job: JobKey, *, item_ids: Sequence[int]
) -> None:
    """Delete import rows that have become contacts or import rejections."""
    await _sql.delete_rows(connection, **job._asdict(), item_ids=item_ids)


async def count_final_persons(
    connection: asyncpg.Connection, job: JobKey, *, address_ids: Sequence[int]
) -> dict[int, int]:
    """Return the highest person count of each address once the import is completed.

    An address that the file has in one row only is left out.
    """
    rows = _sql.count_final_persons(connection, **job._asdict(), address_ids=address_ids)
    return {address: count async for address, count in rows}


async def count_contacts_of_role_addresses(
    connection: asyncpg.Connection, job: JobKey, *, role_address_limit: int
) -> None:
    """Lock the role addresses that the import repeats, and store how many contacts hold each."""
    of_import = {**job._asdict(), "role_address_limit": role_address_limit}
    await _end_sql.lock_repeated_role_addresses(connection, **of_import)
    await _end_sql.count_contacts_of_role_addresses(connection, **of_import)


async def find_missed_propagation(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    own_right_statuses: Sequence[str],
    role_address_limit: int,
) -> list[tuple[int, int, int, int]]:
    """Return (contact, field, address, source) where an opt-out must still be propagated.

    The chunks may have treated the source as a role address, because they counted rows that later
    were recognized or rejected.
    """
    rows = _end_sql.find_missed_propagation(
        connection,
        **job._asdict(),
        own_right_statuses=own_right_statuses,
        role_address_limit=role_address_limit,
    )
    return [tuple(row) async for row in rows]


async def insert_tags(connection: asyncpg.Connection, job: JobKey, *, tag: str | None) -> None:
    """Create the tags that the account lacks: those of the import's rows, and `tag`."""
    await _sql.insert_tags(connection, **job._asdict(), tag=tag)


async def reject_row(
    connection: asyncpg.Connection, job: JobKey, *, item_id: int, detail: str
) -> list[int]:
    """Replace a row whose chunk failed by an import rejection with this detail.

    Return the fields in which the row had addresses.
    """
    fields: list[int] = await _sql.reject_row(
        connection, **job._asdict(), item_id=item_id, detail=detail
    )
    return fields
