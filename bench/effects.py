"""The effect of a run on a list, which must be the same for every contender."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiosql
import asyncpg

from schemas.errors import SluiceError

sql: Any = aiosql.from_path(
    Path(__file__).with_name("rounds.sql"), "asyncpg", mandatory_parameters=False
)


class EffectsDiffer(SluiceError):
    """Two contenders did different work."""


class Effect(NamedTuple):
    """Counts by name: direct results by job, outcome and reason, and addresses by status."""

    title: str
    counts: dict[str, int]


async def read_effect(
    connection: asyncpg.Connection, title: str, account_id: int, jobs: Sequence[tuple[str, int]]
) -> Effect:
    """Return the effect of the jobs, given as (name, id), on the account."""
    counts: dict[str, int] = {}
    for name, job_id in jobs:
        async for outcome, reason, rows in sql.results_by_kind(connection, job_id=job_id):
            counts[f"{name}: {outcome}{f', {reason}' if reason else ''}"] = rows
    async for status, addresses in sql.addresses_by_status(connection, account_id=account_id):
        counts[f"addresses {status}"] = addresses
    return Effect(title, counts)


def require_same(first: Effect, other: Effect) -> None:
    """Raise EffectsDiffer with both names and the differences, unless the effects are equal."""
    pairs = {
        name: (first.counts.get(name, 0), other.counts.get(name, 0))
        for name in sorted(first.counts.keys() | other.counts.keys())
    }
    differing = [f"  {name}: {a:,} and {b:,}" for name, (a, b) in pairs.items() if a != b]
    if differing:
        title = (
            f"{first.title} and {other.title} did different work, so they cannot be compared."
            " No figures were kept:"
        )
        raise EffectsDiffer("\n".join([title, *differing[:12]]))
