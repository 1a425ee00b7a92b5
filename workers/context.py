"""What a worker process has at hand while it runs. Opened by middleware, used by actors."""

import os
import socket
import threading
from dataclasses import dataclass, field
from functools import cache

import asyncpg

from runtime.settings import Settings
from workers.chunk_door import ChunkDoor
from workers.doorbell import Doorbell


def process_name(settings: Settings) -> str:
    """How this process is called in logs and in `job_chunks.worker`: dyno or host, and its id."""
    return f"{settings.dyno or _host()}.{os.getpid()}"


@cache
def _host() -> str:
    return socket.gethostname()


@dataclass(slots=True)
class WorkerContext:
    """One per worker process. `name` is dyno and process; the first SIGTERM sets `stopping`."""

    settings: Settings
    doorbell: Doorbell
    name: str
    stopping: threading.Event = field(default_factory=threading.Event)
    door: ChunkDoor = field(init=False)
    _pool: asyncpg.Pool | None = None

    def __post_init__(self) -> None:
        self.door = ChunkDoor(self.settings.chunks_at_once)

    @property
    def pool(self) -> asyncpg.Pool:
        """The process's connections; only while the worker runs."""
        if self._pool is None:
            raise RuntimeError("the worker has no pool before its boot and after its shutdown")
        return self._pool

    def use_pool(self, pool: asyncpg.Pool | None) -> None:
        """Called by the middleware that opens and closes the pool."""
        self._pool = pool
