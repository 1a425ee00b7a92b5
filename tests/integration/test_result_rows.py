"""Result rows packed for COPY are stored unchanged."""

from datetime import UTC, datetime
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_type_hints

import asyncpg
import pytest

from db import results
from db.result_rows import STORED_COLUMNS, contact_of
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome, Reason
from schemas.results import ResultKind, ResultRow
from schemas.statuses import Status

LARGE = 2**63 - 1

HINTS = get_type_hints(ResultKind)


def filled(kind: ResultKind) -> ResultKind:
    """Return the kind with a value in each field that has a default: in later columns."""
    return kind._replace(**{name: a_value_of(HINTS[name]) for name in ResultKind._field_defaults})


def a_value_of(hint: Any) -> Any:
    """Return a value of the type, which may be a text or an enum, or None beside it."""
    types = [each for each in get_args(hint) or (hint,) if each is not NoneType]
    return list(types[0])[-1] if issubclass(types[0], Enum) else "a_word"


@pytest.mark.parametrize("contacts", [{}, {3: 2, LARGE: 4}, None])
async def test_packed_rows_read_back_as_they_were(
    pool: asyncpg.Pool, contacts: dict[int, int] | None
) -> None:
    """Every column, NULL, microsecond and largest number is read back unchanged. Rows are ordered
    by item and field, whatever their outcome. Results may name their items' own contacts, other
    contacts or none.
    """
    decided_at = datetime(2024, 2, 29, 23, 59, 59, 123457, tzinfo=UTC)
    direct, propagated = Cause.DIRECT, Cause.PROPAGATED
    changed = (Outcome.APPLIED, None, Status.NON_MARKETABLE, Status.ADMIN)
    kept = (Outcome.UNCHANGED, Reason.ALREADY_OPTED_OUT, Status.SPAM, None)
    missing = (Outcome.REJECTED, "a_word_of_its_own", None, None)
    rows: dict[ResultKind, list[ResultRow]] = {
        filled(ResultKind(*changed, direct)): [
            (-LARGE - 1, 1, 7, None),
            *((n, 1, n, None) for n in range(3, 25)),
        ],
        filled(ResultKind(*changed, propagated)): [(0, 2, LARGE, LARGE)],
        filled(ResultKind(*kept, direct)): [(1, 3, 9, None)],
        ResultKind(*missing, direct): [(LARGE, 1, None, None)],
    }
    for name in ResultKind._fields:
        assert any(getattr(kind, name) is not None for kind in rows), name
    async with pool.acquire() as connection:
        await results.insert_results(
            connection,
            JobKey(LARGE, LARGE),
            chunk_no=2**31 - 1,
            decided_at=decided_at,
            rows=rows,
            contacts=contacts,
        )
        stored = await connection.fetch(
            f"select {', '.join(STORED_COLUMNS)} from results order by ctid"
        )
    assert [tuple(row) for row in stored] == sorted(
        (
            *(LARGE, LARGE, 2**31 - 1, decided_at, pair[0]),
            contact_of(pair[0], kind.cause, pair[2], contacts),
            *(*pair[1:3], *kind, pair[3]),
        )
        for kind, pairs in rows.items()
        for pair in pairs
    )


async def test_every_column_is_written(pool: asyncpg.Pool) -> None:
    """The table of results has no column that COPY leaves out."""
    stored = await pool.fetch(
        "select attname from pg_attribute"
        " where attrelid = 'results'::regclass and attnum > 0 and not attisdropped"
    )
    assert {row["attname"] for row in stored} == set(STORED_COLUMNS)
