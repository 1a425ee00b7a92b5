"""Which chunk comes next."""

import asyncpg
import pytest

from db import chunks
from runtime.settings import Settings
from tests.kit.factories import key_of
from tests.kit.submitting import submit_planned_opt_out

CHUNKS = 8


@pytest.fixture
async def job_id(pool: asyncpg.Pool, settings: Settings) -> int:
    """Plan an opt-out of one contact a chunk with four lanes."""
    return await submit_planned_opt_out(pool, settings, "claiming", contacts=CHUNKS, lanes=4)


async def claimed(pool: asyncpg.Pool, job_id: int, share: float) -> int | None:
    """Claim a chunk from this share on, release it, and return its number."""
    async with pool.acquire() as connection, connection.transaction():
        chunk = await chunks.claim_next(connection, await key_of(pool, job_id), share=share)
    return chunk.chunk_no if chunk else None


@pytest.mark.parametrize(("share", "first"), [(0.0, 1), (0.5, 5), (0.99, 8), (0.125, 2)])
async def test_a_claim_begins_at_its_share_and_comes_to_the_rest_at_last(
    pool: asyncpg.Pool, job_id: int, share: float, first: int
) -> None:
    """From its share on to the end, then from the beginning; each chunk once, then none."""
    order = []
    while (chunk_no := await claimed(pool, job_id, share)) is not None:
        order.append(chunk_no)
        await pool.execute(
            "update job_chunks set state = 'done', applied = pairs where job_id = $1"
            " and chunk_no = $2",
            job_id,
            chunk_no,
        )
    assert order == [*range(first, CHUNKS + 1), *range(1, first)]


async def test_what_is_held_or_has_to_wait_is_passed_over(pool: asyncpg.Pool, job_id: int) -> None:
    """Chunks ahead that others hold, or that are to be tried later, send a claim to those before
    its share; where these are taken too it gets none, and waits for nobody.
    """
    await pool.execute(
        "update job_chunks set runnable_at = now() + interval '1 hour'"
        " where job_id = $1 and chunk_no in (5, 8)",
        job_id,
    )
    held = "select from job_chunks where job_id = $1 and chunk_no = any($2) for update"
    async with pool.acquire() as other, other.transaction():
        await other.execute(held, job_id, [6, 7])
        assert await claimed(pool, job_id, 0.5) == 1
        await other.execute(held, job_id, [1, 2, 3, 4])
        assert await claimed(pool, job_id, 0.5) is None
    assert await claimed(pool, job_id, 0.5) == 6


async def test_only_the_named_chunk_is_claimed(pool: asyncpg.Pool, job_id: int) -> None:
    """The chunk of that number or none, and none of a job that does not run."""
    async with pool.acquire() as connection, connection.transaction():
        chunk = await chunks.claim_by_number(connection, await key_of(pool, job_id), 3)
        assert chunk is not None
        assert chunk.chunk_no == 3
        async with pool.acquire() as other, other.transaction():
            assert await chunks.claim_by_number(other, await key_of(pool, job_id), 3) is None
    await pool.execute("update jobs set state = 'paused' where id = $1", job_id)
    assert await claimed(pool, job_id, 0.0) is None
    async with pool.acquire() as connection, connection.transaction():
        assert await chunks.claim_by_number(connection, await key_of(pool, job_id), 3) is None
