"""What a worker process has at hand while it runs. Opened by middleware, used by actors."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import asyncpg

from engine.chunk_limiter import ChunkLimiter
from runtime.settings import Settings
from workers.enqueue import JobQueue


class CurrentChunk(NamedTuple):
    """What a task of this process is working on."""

    job: int
    account: int
    action: str
    chunk: int
    correlation_id: str


@dataclass(slots=True)
class WorkerContext:
    """One per worker process. `name` is dyno and process; the first SIGTERM sets `stopping`.

    `current_chunks` has the chunk of each task that works one, for the line that says what a
    process was stuck with.
    """

    settings: Settings
    job_queue: JobQueue
    name: str
    stopping: threading.Event = field(default_factory=threading.Event)
    chunk_limiter: ChunkLimiter = field(init=False)
    current_chunks: dict[asyncio.Task[Any], CurrentChunk] = field(default_factory=dict)
    _pool: asyncpg.Pool | None = None

    def __post_init__(self) -> None:
        self.chunk_limiter = ChunkLimiter(self.settings.chunks_per_process)

    @property
    def pool(self) -> asyncpg.Pool:
        """The process's connections; only while the worker runs."""
        if self._pool is None:
            raise RuntimeError("the worker has no pool before its boot and after its shutdown")
        return self._pool

    def use_pool(self, pool: asyncpg.Pool | None) -> None:
        """Set or remove the pool; for the middleware that opens and closes it."""
        self._pool = pool
