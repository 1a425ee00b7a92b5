"""Result rows packed for COPY are stored unchanged."""

from datetime import UTC, datetime

import asyncpg
import pytest

from db import results
from db.result_rows import RESULT_COLUMNS, contact_of
from schemas.job_key import JobKey
from schemas.outcomes import Cause, Outcome, Reason
from schemas.results import ResultKind
from schemas.statuses import Status

LARGE = 2**63 - 1


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
    rows = {
        ResultKind(*changed, direct): [
            (-LARGE - 1, 1, 7, None),
            *((n, 1, n, None) for n in range(3, 25)),
        ],
        ResultKind(*changed, propagated): [(0, 2, LARGE, LARGE)],
        ResultKind(*kept, direct): [(1, 3, 9, None)],
        ResultKind(*missing, direct): [(LARGE, 1, None, None)],
    }
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
            f"select {', '.join(RESULT_COLUMNS)} from results order by ctid"
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
