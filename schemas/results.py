"""A row of `results`: what the rules decide of it, and what the chunk that writes it adds."""

from typing import NamedTuple, TypeAlias

from schemas.outcomes import Cause, Outcome
from schemas.statuses import Status


class ResultKind(NamedTuple):
    """What results have in common. Each field is a column of `results`.

    `docs/extending.md` tells how to add one.
    """

    outcome: Outcome
    reason: str | None
    from_status: Status | None
    to_status: Status | None
    cause: Cause


ResultRow: TypeAlias = tuple[int, int, int | None, int | None]
"""A result apart from its kind: item id, field, address id, source address id.

A plain tuple, because a chunk has thousands of them."""
