"""How the uploaded rows of an import become contacts, or are recognized as contacts there are."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import asyncpg

from db.errors import made_once
from db.queries import load
from schemas.job_key import JobKey
from schemas.recognition import ContactCandidate, RecognitionResult, RowToRecognize
from schemas.staging import CELL_REJECTION_REASONS

_sql = load("import_chunks")
_end_sql = load("import_ends")


class KnownAddressColumns(NamedTuple):
    """Addresses of a chunk that the account knows, as columns of one order.

    With them are the match keys that stand in more than one of the chunk's rows. `with_ids` says
    that rows have external ids.
    """

    ids: list[int]
    match_keys: list[str]
    roles: list[bool]
    contact_counts: list[int]
    repeated: list[str]
    with_ids: bool = False


class CreatedRows(NamedTuple):
    """What a chunk has created: new addresses with their contact counts, all of one version, and
    links.

    Each link is (contact, field, address), in that order.
    """

    people: dict[int, int]
    version: int | None
    links: list[tuple[int, int, int]]


async def lock_known_addresses(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    shared_address_limit: int,
) -> KnownAddressColumns:
    """Find the known addresses of a chunk's rows, and lock them but for role addresses."""
    known = KnownAddressColumns([], [], [], [], [])
    rows = _sql.lock_known_addresses(
        connection,
        **job._asdict(),
        item_ids=item_ids,
        shared_address_limit=shared_address_limit,
    )
    with_ids = False
    async for match_key, id_, role, contact_count in rows:
        if match_key is None:
            with_ids = True
        elif id_ is None:
            known.repeated.append(match_key)
        else:
            known.ids.append(id_)
            known.match_keys.append(match_key)
            known.roles.append(role)
            known.contact_counts.append(contact_count)
    return known._replace(with_ids=with_ids)


async def read_rows_to_recognize(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    item_ids: Sequence[int],
    match_keys: Sequence[str],
) -> list[RowToRecognize]:
    """Read the rows of a chunk that have one of the addresses, or an id of another system."""
    rows = _sql.read_rows_to_recognize(
        connection,
        **job._asdict(),
        item_ids=item_ids,
        match_keys=match_keys,
    )
    return [RowToRecognize(*row) async for row in rows]


async def find_candidates(
    connection: asyncpg.Connection,
    *,
    account_id: int,
    address_ids: Sequence[int],
    external_ids: Sequence[str],
) -> list[ContactCandidate]:
    """Read the contacts that hold one of the addresses, or have one of the external ids."""
    if not address_ids and not external_ids:
        return []
    rows = _sql.find_candidates(
        connection, account_id=account_id, address_ids=address_ids, external_ids=external_ids
    )
    return [
        ContactCandidate(
            id=row["id"],
            given_name=row["given_name"],
            family_name=row["family_name"],
            company=row["company"],
            external_id=row["external_id"],
            is_repeat=row["is_repeat"],
            match_keys=dict(zip(row["fields"], row["match_keys"], strict=True)),
        )
        async for row in rows
    ]


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
    """Create the contacts, addresses and links of a chunk; recognized rows add to their contacts.

    A new address gets `initial_status`, or what `initial_statuses_by_stated` has for the status
    that the file states. Raises ConcurrentLink if another transaction created one of the addresses
    or contacts at the same time.
    """
    matches, additions = recognized.matches, recognized.additions
    new_rows = {
        **job._asdict(),
        "item_ids": [id_ for id_ in item_ids if id_ not in matches] if matches else item_ids,
        "repeats": list(recognized.repeats),
    }
    added = {
        "added_item_ids": [each.item_id for each in additions],
        "added_contact_ids": [each.contact_id for each in additions],
        "added_fields": [each.field for each in additions],
    }
    with made_once():
        await _sql.insert_contacts(
            connection, without_external_id=list(recognized.without_external_id), **new_rows
        )
        ids, people, version, *links = await _sql.insert_links(
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
    return CreatedRows(dict(zip(ids, people, strict=True)), version, list(zip(*links, strict=True)))


async def _store_recognized(
    connection: asyncpg.Connection,
    job: JobKey,
    recognized: RecognitionResult,
    added: Mapping[str, Sequence[int]],
) -> None:
    if recognized.counting:
        counted = sorted(recognized.counting)
        await _sql.add_contact_counts(
            connection, account_id=job.account_id, contact_ids=counted, **added
        )
    if recognized.matches:
        await _sql.insert_recognized_rows(
            connection, **job._asdict(), **_recognized_columns(recognized), **added
        )


def _recognized_columns(recognized: RecognitionResult) -> dict[str, list[int]]:
    matches = recognized.matches
    return {
        "recognized_item_ids": list(matches),
        "recognized_contact_ids": list(matches.values()),
    }


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
    """Read what the file states for the addresses of the chunk, which are stored by now."""
    rows = _sql.read_stated_statuses(connection, **job._asdict(), item_ids=item_ids)
    return {row[0]: row[1] async for row in rows}


async def delete_rows(
    connection: asyncpg.Connection, job: JobKey, *, item_ids: Sequence[int]
) -> None:
    """Remove the rows, which have become contacts or rejections."""
    await _sql.delete_rows(connection, **job._asdict(), item_ids=item_ids)


async def person_counts_by_the_end(
    connection: asyncpg.Connection, job: JobKey, *, address_ids: Sequence[int]
) -> dict[int, int]:
    """How many people will hold the addresses when the whole import is done, at most."""
    rows = _sql.person_counts_by_the_end(connection, **job._asdict(), address_ids=address_ids)
    return {row[0]: row[1] async for row in rows}


async def count_contacts_of_role_addresses(
    connection: asyncpg.Connection, job: JobKey, *, shared_address_limit: int
) -> None:
    """Count the contacts that hold the role addresses of the import."""
    of_import = {
        **job._asdict(),
        "shared_address_limit": shared_address_limit,
    }
    await _end_sql.lock_repeated_role_addresses(connection, **of_import)
    await _end_sql.count_contacts_of_role_addresses(connection, **of_import)


async def find_missed_propagation(
    connection: asyncpg.Connection,
    job: JobKey,
    *,
    own_right_statuses: Sequence[str],
    shared_address_limit: int,
) -> list[tuple[int, int, int, int]]:
    """Return (contact, field, address, source) of the links that an opt-out must reach
    after all.
    """
    rows = _end_sql.find_missed_propagation(
        connection,
        **job._asdict(),
        own_right_statuses=own_right_statuses,
        shared_address_limit=shared_address_limit,
    )
    return [tuple(row) async for row in rows]


async def insert_tags(connection: asyncpg.Connection, job: JobKey, *, tag: str | None) -> None:
    """Make the tags that the import brings."""
    await _sql.insert_tags(connection, **job._asdict(), tag=tag)


async def reject_row(
    connection: asyncpg.Connection, job: JobKey, *, item_id: int, detail: str
) -> list[int]:
    """Keep a row that cannot become a contact as refused; gives the fields it had addresses in."""
    fields: list[int] = await _sql.read_row_fields(connection, **job._asdict(), item_id=item_id)
    await _sql.reject_row(connection, **job._asdict(), item_id=item_id, detail=detail)
    await delete_rows(connection, job, item_ids=[item_id])
    return fields


async def count_rejected_rows(connection: asyncpg.Connection, job: JobKey) -> int:
    """How many rows of the import were refused, single cells not counted."""
    count: int = await _sql.count_rejected_rows(
        connection,
        **job._asdict(),
        cell_reasons=sorted(CELL_REJECTION_REASONS),
    )
    return count
