"""A chunk's items are listed addresses, which contacts may or may not hold."""

from collections.abc import Sequence
from functools import partial

import asyncpg

from actions.rules.chunk import AddressRow
from db import address_lists, forecasting
from db.chunks import ClaimedChunk
from db.forecasting import ForecastJob
from db.job_progress import JobToWork
from db.planning import JobToPlan
from engine.chunk_reader import (
    ChunkReader,
    ChunkSnapshot,
    addresses_by_id,
    group_by_source,
    initial_status,
    max_person_count_to_read_siblings,
    versions_by_id,
)
from engine.sources.source import ForecastPart, Source
from schemas.requests import LISTED_ADDRESS_FIELD

_NEW: AddressRow = (None, None, None, 0)
"""An address that the account did not know."""


class AddressListSource(Source):
    """A list of addresses, stored with its job or given by an immediate opt-out."""

    async def freeze(self, connection: asyncpg.Connection, job: JobToPlan, chunk_size: int) -> None:
        """Freeze the stored list."""
        await address_lists.freeze_list(connection, job.key, chunk_size=chunk_size)

    async def forecast_parts(
        self, connection: asyncpg.Connection, job: ForecastJob, step: int
    ) -> Sequence[ForecastPart]:
        """Count the list in one part."""
        del connection, step
        return [partial(forecasting.count_list, job=job)]

    async def read(self, reader: ChunkReader, chunk: ClaimedChunk) -> ChunkSnapshot:
        """Read the listed addresses.

        New ones of a stored list are created here; an immediate opt-out creates its own later.
        """
        lookup = reader.lookup or await address_lists.resolve_listed(
            reader.connection,
            reader.job.key,
            item_ids=chunk.item_ids,
            initial_status=initial_status(reader.action, reader.params),
            role_address_limit=max_person_count_to_read_siblings(
                reader.action, reader.params, reader.role_address_limit
            ),
        )
        links = [
            (item_id, LISTED_ADDRESS_FIELD, address_id)
            for item_id, address_id in zip(lookup.item_ids, lookup.address_ids, strict=True)
        ]
        new = dict.fromkeys(lookup.new.ids, _NEW)
        if reader.lock_all:
            # Items are addresses, so siblings are outside the chunk, even those on one contact.
            snapshot = await reader.lock(links, new if reader.lookup else {}, min_contacts=1)
            addresses = {**snapshot.inputs.addresses, **new}
            snapshot = snapshot.add_inputs(addresses=addresses)
        else:
            known = lookup.known
            snapshot = reader.snapshot(
                links,
                addresses_by_id(known) | new,
                group_by_source(lookup.sibling_links),
                versions_by_id(known),
                known.decided_at,
            )
        return snapshot._replace(new=frozenset(new))

    def contact_ids(self, chunk: ClaimedChunk) -> Sequence[int]:
        """Return none: other chunks may reach the same contacts."""
        del chunk
        return ()

    async def reject_item(
        self, connection: asyncpg.Connection, job: JobToWork, item_id: int, error: str
    ) -> dict[int, int | None]:
        """Keep the listed address as rejected."""
        await address_lists.reject_listed(connection, job.key, item_id=item_id, detail=error)
        return {LISTED_ADDRESS_FIELD: None}
