"""What a run has made of a list: the same for everyone, or the comparison means nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiosql
import asyncpg

from schemas.errors import SluiceError

sql: Any = aiosql.from_path(
    Path(__file__).with_name("rounds.sql"), "asyncpg", mandatory_parameters=False
)

_SHOWN = 12
"""At most so many differences are shown."""


class EffectsDiffer(SluiceError):
    """Two contenders did not do the same work."""


class Effect(NamedTuple):
    """Counts by name: of each job's direct results by outcome and reason, and of the addresses by
    status.
    """

    of: str
    counts: dict[str, int]


async def effect_of(
    connection: asyncpg.Connection, of: str, account_id: int, jobs: Sequence[tuple[str, int]]
) -> Effect:
    """What the jobs, each given with a name, have done to the account."""
    counts: dict[str, int] = {}
    for name, job_id in jobs:
        async for outcome, reason, rows in sql.results_by_kind(connection, job_id=job_id):
            counts[f"{name}: {outcome}{f', {reason}' if reason else ''}"] = rows
    async for status, addresses in sql.addresses_by_status(connection, account_id=account_id):
        counts[f"addresses {status}"] = addresses
    return Effect(of, counts)


def require_same(first: Effect, other: Effect) -> None:
    """Raise EffectsDiffer, which names both and what differs, unless they are the same."""
    names = sorted(first.counts.keys() | other.counts.keys())
    differing = [
        f"  {name}: {first.counts.get(name, 0):,} and {other.counts.get(name, 0):,}"
        for name in names
        if first.counts.get(name, 0) != other.counts.get(name, 0)
    ]
    if differing:
        said = (
            f"{first.of} and {other.of} did not do the same work, so they cannot be compared;"
            " no figures were kept:"
        )
        raise EffectsDiffer("\n".join([said, *differing[:_SHOWN]]))
