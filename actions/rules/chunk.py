"""What the decisions of a chunk depend on, and what they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from schemas.chunk_rows import Change, Link
from schemas.decisions import Decision
from schemas.results import ResultKind, ResultRow
from schemas.statuses import Status

AddressRow: TypeAlias = tuple[Status | None, int | None, int | None, int]
"""An address: status (None if the chunk creates it), the address that the status was propagated
from, the job that set it, and its person count. A plain tuple: a chunk has thousands."""


@dataclass(frozen=True, slots=True)
class ChunkInputs:
    """All that the decisions of a chunk depend on.

    `links` are the relevant links of the chunk's contacts: those of the selected fields, or of all
    fields for an action that may propagate, ordered by contact and field. `missing` are the ids
    without a contact in the account. `with_opted_out_sibling` are the addresses with a sibling that
    is opted out in its own right and is not a role address.

    `sibling_links` has the siblings of each address of several contacts, on every contact that
    holds it; role addresses have none here. `earlier_decisions` is about addresses that this job
    decided on directly in an earlier chunk, and whose status it has propagated since. It maps them
    to that decision.

    `row_links` is for an import with recognized contacts, which may have other addresses too. It
    has only the links that a row of the file names. `stated` has the statuses that the file states,
    by address.
    """

    job_id: int
    fields: frozenset[int]
    role_address_limit: int
    links: Sequence[Link]
    addresses: Mapping[int, AddressRow]
    missing: Sequence[int] = ()
    with_opted_out_sibling: frozenset[int] = frozenset()
    sibling_links: Mapping[int, Sequence[Link]] = field(default_factory=dict)
    earlier_decisions: Mapping[int, Decision] = field(default_factory=dict)
    row_links: Sequence[Link] | None = None
    stated: Mapping[int, Status] = field(default_factory=dict)

    def selected_links(self) -> Sequence[Link]:
        """Return the links whose addresses are selected."""
        links = self.links if self.row_links is None else self.row_links
        return [link for link in links if link[1] in self.fields]


@dataclass(slots=True)
class ChunkDecisions:
    """The result rows to write, by kind, and the last change of each address that changes.

    A chunk has thousands of rows and a dozen kinds; every kind has a row.
    """

    rows: dict[ResultKind, list[ResultRow]] = field(default_factory=dict)
    changes: dict[int, Change] = field(default_factory=dict)
