"""The limit on the chunks that a process runs in Postgres at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engine import chunk_limiter
from engine.chunk_limiter import ChunkLimiter

NO_TIMEOUT_SECONDS = 3600.0


class ConcurrencyProbe:
    """Counts the chunks inside the limiter, and their peak."""

    def __init__(self, limiter: ChunkLimiter) -> None:
        self._limiter = limiter
        self.now = 0
        self.peak = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Enter the shared mode, and count the chunks inside."""
        async with self._limiter.shared():
            self.now += 1
            self.peak = max(self.peak, self.now)
            yield
            self.now -= 1

    async def pass_through(self) -> None:
        """Stay inside for a few turns of the event loop."""
        async with self.shared():
            for _ in range(5):
                await asyncio.sleep(0)


@pytest.mark.parametrize("limit", [1, 3])
async def test_concurrent_chunks_are_limited(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many chunks wait, no more than the limit run at a time as long as
    each one finishes.
    """
    monkeypatch.setattr(chunk_limiter, "SLOT_SECONDS", NO_TIMEOUT_SECONDS)
    inside = ConcurrencyProbe(ChunkLimiter(limit))
    async with asyncio.timeout(60):
        await asyncio.gather(*(inside.pass_through() for _ in range(20)))
    assert inside.peak == limit


async def test_a_stuck_chunk_does_not_block_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one chunk is stuck, the others run one at a time as if it were absent. After it has
    left, the limit holds as before.
    """
    monkeypatch.setattr(chunk_limiter, "SLOT_SECONDS", 0.01)
    inside = ConcurrencyProbe(ChunkLimiter(1))
    async with asyncio.timeout(60):
        async with inside.shared():
            # It must exceed its slot time before the quick chunks behind it do.
            await inside.pass_through()
            monkeypatch.setattr(chunk_limiter, "SLOT_SECONDS", NO_TIMEOUT_SECONDS)
            await asyncio.gather(*(inside.pass_through() for _ in range(20)))
            assert inside.peak == 2
        inside.peak = 0
        await asyncio.gather(*(inside.pass_through() for _ in range(20)))
    assert inside.peak == 1


async def test_an_exclusive_chunk_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exclusive chunk enters only when no other chunk is inside, stuck ones included. None
    enters before it has left.
    """
    monkeypatch.setattr(chunk_limiter, "SLOT_SECONDS", 0.001)
    limiter = ChunkLimiter(2)
    inside = ConcurrencyProbe(limiter)

    async def alone() -> None:
        async with limiter.exclusive():
            assert inside.now == 0
            for _ in range(50):
                await asyncio.sleep(0.001)
                assert inside.now == 0

    async with asyncio.timeout(60):
        async with asyncio.TaskGroup() as group:
            async with inside.shared():
                group.create_task(alone())
                await asyncio.sleep(0.01)
                group.create_task(inside.pass_through())
            for _ in range(20):
                group.create_task(inside.pass_through())


async def test_a_cancelled_chunk_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that is cancelled while waiting or running frees its slot."""
    monkeypatch.setattr(chunk_limiter, "SLOT_SECONDS", NO_TIMEOUT_SECONDS)
    inside = ConcurrencyProbe(ChunkLimiter(1))

    async def stay() -> None:
        async with inside.shared():
            await asyncio.sleep(NO_TIMEOUT_SECONDS)

    tasks = [asyncio.create_task(stay()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    inside.now = inside.peak = 0
    async with asyncio.timeout(60):
        await asyncio.gather(*(inside.pass_through() for _ in range(5)))
    assert inside.peak == 1
