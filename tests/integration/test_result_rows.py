"""Result rows packed for COPY arrive in Postgres as they were."""

from datetime import UTC, datetime

import asyncpg

from db import chunks
from db.result_rows import RESULT_COLUMNS
from schemas.outcomes import Cause, Outcome, Reason
from schemas.statuses import Status

LARGE = 2**63 - 1


async def test_packed_rows_read_back_as_they_were(pool: asyncpg.Pool) -> None:
    """Each column, each NULL and the largest numbers come back unchanged, microseconds too."""
    decided_at = datetime(2024, 2, 29, 23, 59, 59, 123457, tzinfo=UTC)
    changed = (Outcome.APPLIED, None, Status.NON_MARKETABLE, Status.ADMIN)
    kept = (Outcome.UNCHANGED, Reason.ALREADY_OPTED_OUT, Status.SPAM, None)
    missing = (Outcome.REJECTED, "a_word_of_its_own", None, None)
    rows = [
        (-LARGE - 1, 1, 7, *changed, Cause.DIRECT, None),
        (2, 2, LARGE, *changed, Cause.PROPAGATED, LARGE),
        (3, 3, 9, *kept, Cause.DIRECT, None),
        (LARGE, 1, None, *missing, Cause.DIRECT, None),
    ]
    async with pool.acquire() as connection:
        await chunks.write_results(
            connection, job_id=LARGE, chunk_no=2**31 - 1, decided_at=decided_at, rows=rows
        )
        stored = await connection.fetch(
            f"select {', '.join(RESULT_COLUMNS)} from results order by contact_id"
        )
    assert [tuple(row) for row in stored] == [(LARGE, 2**31 - 1, decided_at, *row) for row in rows]
