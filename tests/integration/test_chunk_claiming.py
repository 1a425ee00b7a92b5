"""The order in which chunks are claimed."""

import asyncpg
import pytest

from db import chunks
from runtime.settings import Settings
from tests.kit.factories import key_of
from tests.kit.submitting import submit_planned_opt_out

CHUNKS = 8


@pytest.fixture
async def job_id(pool: asyncpg.Pool, settings: Settings) -> int:
    """Plan an opt-out with one contact a chunk and four lanes; return the job's id."""
    return await submit_planned_opt_out(pool, settings, "claiming", contacts=CHUNKS, lanes=4)


async def claim_chunk(pool: asyncpg.Pool, job_id: int, share: float) -> int | None:
    """Claim a chunk from this share on, release it, and return its number."""
    async with pool.acquire() as connection, connection.transaction():
        chunk = await chunks.claim_next(connection, await key_of(pool, job_id), share=share)
    return chunk.chunk_no if chunk else None


@pytest.mark.parametrize(("share", "first"), [(0.0, 1), (0.5, 5), (0.99, 8), (0.125, 2)])
async def test_claims_start_at_their_share_and_wrap_around(
    pool: asyncpg.Pool, job_id: int, share: float, first: int
) -> None:
    """Claims go from the share to the end, then from the start, each chunk once."""
    order = []
    while (chunk_no := await claim_chunk(pool, job_id, share)) is not None:
        order.append(chunk_no)
        await pool.execute(
            "update job_chunks set state = 'done', applied = pairs where job_id = $1"
            " and chunk_no = $2",
            job_id,
            chunk_no,
        )
    assert order == [*range(first, CHUNKS + 1), *range(1, first)]


async def test_held_and_waiting_chunks_are_skipped(pool: asyncpg.Pool, job_id: int) -> None:
    """A claim skips chunks that others hold or that must wait, also those before its share. If no
    chunk is left it returns none without waiting.
    """
    await pool.execute(
        "update job_chunks set runnable_at = now() + interval '1 hour'"
        " where job_id = $1 and chunk_no in (5, 8)",
        job_id,
    )
    held = "select from job_chunks where job_id = $1 and chunk_no = any($2) for update"
    async with pool.acquire() as other, other.transaction():
        await other.execute(held, job_id, [6, 7])
        assert await claim_chunk(pool, job_id, 0.5) == 1
        await other.execute(held, job_id, [1, 2, 3, 4])
        assert await claim_chunk(pool, job_id, 0.5) is None
    assert await claim_chunk(pool, job_id, 0.5) == 6


async def test_only_the_named_chunk_is_claimed(pool: asyncpg.Pool, job_id: int) -> None:
    """The chunk of this number is claimed or none, and none of a paused job."""
    async with pool.acquire() as connection, connection.transaction():
        chunk = await chunks.claim_by_number(connection, await key_of(pool, job_id), 3)
        assert chunk is not None
        assert chunk.chunk_no == 3
        async with pool.acquire() as other, other.transaction():
            assert await chunks.claim_by_number(other, await key_of(pool, job_id), 3) is None
    await pool.execute("update jobs set state = 'paused' where id = $1", job_id)
    assert await claim_chunk(pool, job_id, 0.0) is None
    async with pool.acquire() as connection, connection.transaction():
        assert await chunks.claim_by_number(connection, await key_of(pool, job_id), 3) is None
