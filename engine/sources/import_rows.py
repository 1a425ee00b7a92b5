"""A chunk's items are import rows: each creates a contact or is recognized as an existing one.

Whether an address is a role address depends on all rows of the file, so the order of chunks does
not matter. If the import was cancelled or a row failed, fewer contacts may hold the address than
the file has rows with it. If it is then no role address, `finalize` propagates its opt-out to its
siblings.
"""

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from actions.registry import get_action
from actions.rules.chunk import AddressRow, ChunkInputs
from actions.rules.propagation import propagate_after_import
from actions.rules.recognition import ContactCounts, recognize
from db import chunk_addresses, chunks, import_chunks, planning, results
from db.chunks import ClaimedChunk
from db.forecasting import ForecastJob
from db.import_chunks import CreatedRows, KnownAddressColumns
from db.job_progress import JobToWork
from db.jobs import Job
from db.planning import JobToPlan
from engine.chunk_reader import (
    ChunkReader,
    ChunkSnapshot,
    addresses_by_id,
    initial_status,
    versions_by_id,
)
from engine.sources.source import ForecastPart, Source
from schemas.chunk_rows import Link
from schemas.decisions import Decision
from schemas.outcomes import Outcome
from schemas.recognition import RecognitionResult
from schemas.statuses import OWN_RIGHT, Status

_OWN_RIGHT = frozenset(OWN_RIGHT)

CHUNK_SIZE_SHARE = 2 / 3
"""An import's share of the chunk size. Creating a contact with its addresses takes longer than
changing them, and locks are to be held as briefly."""

MAX_CONTACTS_TO_RECOGNIZE = 1_000
"""How many contacts may hold an address by which a row is recognized. All of them are read."""

FINALIZE_CHUNK_NO = 0
"""The number of the chunk that `finalize` inserts. Planned chunks begin at 1."""


class ImportRowSource(Source):
    """Rows of an uploaded file. Each has the id of the contact that it creates, unless it is
    recognized.
    """

    is_finalized = True

    async def freeze(self, connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
        """Freeze the uploaded rows, and create their tags."""
        await import_chunks.insert_tags(connection, job.key, tag=job.params.get("tag"))
        size = max(1, int(chunk_size * CHUNK_SIZE_SHARE))
        await planning.freeze_import(connection, job.key, fields=len(job.fields), chunk_size=size)

    async def forecast_parts(
        self, connection: asyncpg.Connection, job: ForecastJob, step: int
    ) -> Sequence[ForecastPart]:
        """Raise NotImplementedError: no import is planned first."""
        raise NotImplementedError

    async def read(self, reader: ChunkReader, chunk: ClaimedChunk) -> ChunkSnapshot:
        """Create the contacts of the rows. Then lock the chunk's addresses and their siblings, so
        that no contact can be linked to one before the commit.
        """
        created, recognized, stated = await _create_contacts(reader, chunk.item_ids)
        new: dict[int, AddressRow] = {
            id_: (None, None, None, count) for id_, count in created.person_counts.items()
        }
        links = await _read_row_links(reader, chunk.item_ids, created, recognized)
        snapshot = await reader.lock(links, new)
        if created.version is not None:
            snapshot.versions.update(dict.fromkeys(created.person_counts, created.version))
        fields = recognized.fields
        if fields:
            row_links = [
                link for link in links if link[0] not in fields or link[1] in fields[link[0]]
            ]
            snapshot = snapshot.add_inputs(row_links=row_links)
        inputs = await _add_final_person_counts(reader, replace(snapshot.inputs, stated=stated))
        inputs = replace(
            inputs,
            with_opted_out_sibling=await reader.find_addresses_with_opted_out_sibling(inputs),
            earlier_decisions=await _find_earlier_decisions(reader, inputs),
        )
        return snapshot._replace(inputs=inputs, new=frozenset(new), contacts=recognized.matches)

    async def reject_item(
        self, connection: asyncpg.Connection, job: JobToWork, item_id: int, error: str
    ) -> dict[int, int | None]:
        """Keep the row as an import rejection."""
        rejected = await import_chunks.reject_row(
            connection, job.key, item_id=item_id, detail=error
        )
        return dict.fromkeys(rejected)

    async def finalize(
        self, connection: asyncpg.Connection, job: JobToWork | Job, role_address_limit: int
    ) -> None:
        """Count the contacts of role addresses, and propagate opt-outs that were missed."""
        await import_chunks.count_contacts_of_role_addresses(
            connection, job.key, role_address_limit=role_address_limit
        )
        missed = await import_chunks.find_missed_propagation(
            connection,
            job.key,
            own_right_statuses=OWN_RIGHT,
            role_address_limit=role_address_limit,
        )
        if missed:
            await _propagate_missed_opt_outs(connection, job, missed, role_address_limit)


async def _create_contacts(
    reader: ChunkReader, item_ids: Sequence[int]
) -> tuple[CreatedRows, RecognitionResult, dict[int, Status]]:
    """Create the contacts, addresses and links of the rows, and delete the rows.

    Return also the statuses that the file states, by address. Raises ConcurrentLink if another
    transaction created a contact or an address at the same time.
    """
    connection, job, action, params = reader.connection, reader.job, reader.action, reader.params
    known = await import_chunks.lock_known_addresses(
        connection,
        job.key,
        item_ids=item_ids,
        role_address_limit=reader.role_address_limit,
        max_contacts=MAX_CONTACTS_TO_RECOGNIZE,
    )
    recognized = await _recognize_rows(reader, item_ids, known)
    reads_statuses = action.reads_statuses(params)
    created = await import_chunks.create_contacts(
        connection,
        job.key,
        item_ids=item_ids,
        known=known,
        recognized=recognized,
        initial_status=initial_status(action, params),
        initial_statuses_by_stated={
            stated: initial_status(action, params, stated)
            for stated in (Status if reads_statuses else ())
        },
        tag=job.params.get("tag"),
    )
    stated = {}
    if reads_statuses:
        stated = await import_chunks.read_stated_statuses(connection, job.key, item_ids=item_ids)
    await import_chunks.delete_rows(connection, job.key, item_ids=item_ids)
    return created, recognized, {id_: Status(status) for id_, status in stated.items()}


async def _recognize_rows(
    reader: ChunkReader, item_ids: Sequence[int], known: KnownAddressColumns
) -> RecognitionResult:
    """Recognize rows that are about contacts of the account or of the chunk."""
    if not (known.ids or known.repeated or known.has_external_ids):
        return RecognitionResult()
    connection, job = reader.connection, reader.job
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
    counts = ContactCounts(
        zip(known.match_keys, known.contact_counts, known.repeat_counts, strict=True),
        role_address_limit=reader.role_address_limit,
        max_contacts=MAX_CONTACTS_TO_RECOGNIZE,
    )
    return recognize(rows, candidates, counts)


async def _read_row_links(
    reader: ChunkReader,
    item_ids: Sequence[int],
    created: CreatedRows,
    recognized: RecognitionResult,
) -> list[Link]:
    """Return the links of the chunk's contacts, in order.

    Links of a recognized contact carry the row's id in place of the contact's, as its results do.
    """
    matches = recognized.matches
    if not matches:
        return created.links
    links = await chunk_addresses.read_links(
        reader.connection, reader.job.account_id, [*set(matches.values()).union(item_ids)]
    )
    links_of: dict[int, list[Link]] = {}
    for link in links:
        links_of.setdefault(link[0], []).append(link)
    return sorted(
        (item_id, field, address_id)
        for item_id in item_ids
        for _, field, address_id in links_of.get(matches.get(item_id, item_id), ())
    )


async def _add_final_person_counts(reader: ChunkReader, inputs: ChunkInputs) -> ChunkInputs:
    """Give the opted-out addresses the person counts that they will have after the import, so that
    the order of its chunks does not matter.
    """
    addresses, stated = inputs.addresses, inputs.stated
    opted_out = [
        id_
        # Of all links: what a recognized contact holds besides the row's addresses propagates too.
        for id_ in {link[2] for link in inputs.links}
        if (
            (addresses[id_][0] in _OWN_RIGHT and addresses[id_][1] is None)
            or stated.get(id_) in _OWN_RIGHT
        )
        # A role address stays one, and counting its contacts would take long.
        and addresses[id_][3] <= reader.role_address_limit
    ]
    if not opted_out:
        return inputs
    final_counts = await import_chunks.count_final_persons(
        reader.connection, reader.job.key, address_ids=opted_out
    )
    counted: dict[int, AddressRow] = {
        id_: (*addresses[id_][:3], max(addresses[id_][3], count))
        for id_, count in final_counts.items()
    }
    return replace(inputs, addresses={**addresses, **counted})


async def _find_earlier_decisions(reader: ChunkReader, inputs: ChunkInputs) -> dict[int, Decision]:
    """Return this job's decisions on addresses that its own propagation has changed since."""
    changed = [
        id_
        for id_ in {link[2] for link in inputs.selected_links()}
        if inputs.addresses[id_][2] == inputs.job_id and inputs.addresses[id_][1] is not None
    ]
    if not changed:
        return {}
    return {
        id_: Decision(Outcome(outcome), Status(to_status) if to_status else None, reason)
        for id_, outcome, to_status, reason in await results.find_earlier_decisions(
            reader.connection, reader.job.key, changed
        )
    }


async def _propagate_missed_opt_outs(
    connection: asyncpg.Connection,
    job: JobToWork | Job,
    missed: Sequence[tuple[int, int, int, int]],
    role_address_limit: int,
) -> None:
    """Propagate the missed opt-outs, and store their results in a chunk of their own.

    `missed` has the links of the contacts concerned: contact, field, address, source.
    """
    links = list(dict.fromkeys(link[:3] for link in missed))
    contacts_of: dict[int, list[int]] = {}
    for contact_id, _, address_id, source_id in missed:
        if address_id == source_id:
            contacts_of.setdefault(source_id, []).append(contact_id)
    locked = await chunk_addresses.lock_addresses(
        connection, job.account_id, sorted({link[2] for link in links})
    )
    action = get_action(job.action)
    inputs = ChunkInputs(
        job_id=job.id,
        fields=frozenset(),
        role_address_limit=role_address_limit,
        links=links,
        addresses=addresses_by_id(locked),
    )
    params = action.params.model_validate(job.params)
    decided = propagate_after_import(action, params, inputs, contacts_of)
    await chunk_addresses.update_addresses(
        connection,
        job.key,
        decided_at=locked.decided_at,
        changes=decided.changes,
        versions=versions_by_id(locked),
    )
    await results.insert_results(
        connection,
        job.key,
        chunk_no=FINALIZE_CHUNK_NO,
        decided_at=locked.decided_at,
        rows=decided.rows,
        contacts={},
    )
    propagated = sum(map(len, decided.rows.values()))
    await chunks.insert_done_chunk(connection, job.key, FINALIZE_CHUNK_NO, propagated=propagated)
