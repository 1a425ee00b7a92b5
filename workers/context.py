"""What the actors, middleware and periodic tasks of a worker process share."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from engine.chunk_limiter import ChunkLimiter
from runtime.settings import Settings
from workers.job_queue import JobQueue


@dataclass(slots=True)
class WorkerContext:
    """The state of one worker process.

    `name` has its dyno or host, and its process id. The first SIGTERM sets `stopping`
    (`workers.shutdown`). `current_chunks` has, for each task that works on a chunk, what the
    watchdog logs about the chunk.
    """

    settings: Settings
    job_queue: JobQueue
    name: str
    stopping: threading.Event = field(default_factory=threading.Event)
    chunk_limiter: ChunkLimiter = field(init=False)
    current_chunks: dict[asyncio.Task[Any], dict[str, Any]] = field(default_factory=dict)
    _pool: asyncpg.Pool | None = None

    def __post_init__(self) -> None:
        self.chunk_limiter = ChunkLimiter(self.settings.chunks_per_process)

    @property
    def pool(self) -> asyncpg.Pool:
        """The process's connections; raises RuntimeError unless the worker runs."""
        if self._pool is None:
            raise RuntimeError("the worker has no pool before its boot and after its shutdown")
        return self._pool

    def use_pool(self, pool: asyncpg.Pool | None) -> None:
        """Set or remove the pool; for the middleware that opens and closes it."""
        self._pool = pool
