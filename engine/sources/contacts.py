"""A chunk's items are contacts of the account."""

from collections.abc import Sequence
from functools import partial

import asyncpg

from db import chunk_addresses, forecasting, planning
from db.chunks import ClaimedChunk
from db.forecasting import ForecastJob
from db.job_progress import JobToWork
from db.planning import JobToPlan
from engine.chunk_reader import ChunkReader, ChunkSnapshot, addresses_by_id, versions_by_id
from engine.sources.source import ForecastPart, Source
from schemas.chunk_rows import Link
from schemas.errors import ConcurrentLink


class ContactSource(Source):
    """Contacts that meet every condition of a selection."""

    async def freeze(self, connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
        """Freeze the contacts that meet the conditions now."""
        await planning.freeze_selection(connection, job, chunk_size=chunk_size)

    async def forecast_parts(
        self, connection: asyncpg.Connection, job: ForecastJob, step: int
    ) -> Sequence[ForecastPart]:
        """Count addresses of several contacts in one part, and the others chunk by chunk."""
        firsts = range(1, await forecasting.get_last_chunk_no(connection, job.key) + 1, step)
        return [
            partial(forecasting.count_held_by_several, job=job),
            *(
                partial(forecasting.count_held_once, job=job, first=first, last=first + step - 1)
                for first in firsts
            ),
        ]

    async def read(self, reader: ChunkReader, chunk: ClaimedChunk) -> ChunkSnapshot:
        """Read the contacts' addresses: without locks, unless the reader locks all."""
        if reader.lock_all:
            links = await chunk_addresses.read_links(
                reader.connection, reader.job.account_id, chunk.item_ids
            )
            snapshot = await reader.lock(links, {})
        else:
            snapshot = await _read_unlocked(reader, chunk)
        inputs = snapshot.inputs
        return snapshot._replace(contacts={}).add_inputs(
            missing=await _find_missing(reader, chunk, inputs.links),
            with_opted_out_sibling=await reader.find_addresses_with_opted_out_sibling(
                inputs, inputs.links
            ),
        )

    async def reject_item(
        self, connection: asyncpg.Connection, job: JobToWork, item_id: int, error: str
    ) -> dict[int, int | None]:
        """Reject the contact's addresses."""
        del error
        links = await chunk_addresses.read_links(connection, job.account_id, [item_id])
        return {field: address for _, field, address in links if field in job.fields}


async def _read_unlocked(reader: ChunkReader, chunk: ClaimedChunk) -> ChunkSnapshot:
    """Read without a lock.

    A new link changes its address too (`contact_count`), so a sibling that was not there yet is
    noticed when the address is changed.
    """
    connection, account_id = reader.connection, reader.job.account_id
    links, read = await chunk_addresses.read_links_and_addresses(
        connection, account_id, chunk.item_ids
    )
    addresses, versions, decided_at = addresses_by_id(read), versions_by_id(read), read.decided_at
    sibling_links = {}
    if reader.has_propagation:
        sibling_links = await reader.read_shared_siblings(links, addresses)
        siblings = {link[2] for of in sibling_links.values() for link in of}.difference(addresses)
        if siblings:
            read = await chunk_addresses.read_addresses(connection, account_id, sorted(siblings))
            addresses |= addresses_by_id(read)
            versions |= versions_by_id(read)
            decided_at = read.decided_at
    return reader.snapshot(links, addresses, sibling_links, versions, decided_at)


async def _find_missing(
    reader: ChunkReader, chunk: ClaimedChunk, links: Sequence[Link]
) -> list[int]:
    without_address = set(chunk.item_ids).difference(link[0] for link in links)
    if not without_address:
        return []
    existing, holding = await chunk_addresses.find_existing_contacts(
        reader.connection, reader.job.account_id, sorted(without_address)
    )
    if holding:
        raise ConcurrentLink("contacts of the chunk were created since their links were read")
    return sorted(without_address.difference(existing))
