"""Which result rows of a chunk another chunk of the job may be about to write too."""

from collections.abc import Collection
from typing import NamedTuple

from actions.rules.chunk import ChunkInputs
from db.result_rows import ResultRows
from schemas.outcomes import Cause


class PartitionedRows(NamedTuple):
    """Rows that only this chunk writes, and rows that another chunk may write too."""

    own: ResultRows
    contested: ResultRows


def partition_rows(
    rows: ResultRows, inputs: ChunkInputs, contact_ids: Collection[int]
) -> PartitionedRows:
    """Separate the rows that only this chunk writes from those that another may write too.

    A direct row belongs to the chunk of its contact. A propagated one may also come from another
    chunk: its contact may be outside this one, or share an address with outside contacts.
    """
    own = {kind: of for kind, of in rows.items() if kind.cause is not Cause.PROPAGATED}
    contested = {}
    propagated = {kind: of for kind, of in rows.items() if kind.cause is Cause.PROPAGATED}
    if propagated:
        addresses = inputs.addresses
        unshared = set(contact_ids)
        unshared.difference_update(link[0] for link in inputs.links if addresses[link[2]][3] > 1)
        for kind, of in propagated.items():
            own[kind] = [row for row in of if row[0] in unshared]
            contested[kind] = [row for row in of if row[0] not in unshared]
    return PartitionedRows(own, contested)
