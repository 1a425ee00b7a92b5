"""What programs that have no part in a measurement took of the processors meanwhile."""

import os
import time
from typing import Any, NamedTuple, Self

import psutil
import redis.asyncio

from bench.templates import Copy
from bench.watching import cpu_seconds_of_trees, machine_busy_seconds


class Others(NamedTuple):
    """What had been used when the measurement began; `ours` are the roots of what belongs to it:
    this process with all that it has started, and the servers.
    """

    ours: tuple[int, ...]
    began: float
    busy: float
    own: float

    @classmethod
    async def before(cls, copy: Copy) -> Self:
        """Begin."""
        async with copy.pool.acquire() as connection:
            server = psutil.Process(connection.get_server_pid()).parent()
        async with redis.asyncio.Redis.from_url(copy.settings.redis_url or "") as client:
            told: dict[str, Any] = await client.info("server")
        assert server is not None
        ours = (os.getpid(), server.pid, int(told["process_id"]))
        return cls(ours, time.perf_counter(), machine_busy_seconds(), cpu_seconds_of_trees(ours))

    def percent(self) -> float:
        """The share of all processors since then; servers on another machine count as others."""
        seconds = time.perf_counter() - self.began
        own = cpu_seconds_of_trees(self.ours) - self.own
        others = max(0.0, machine_busy_seconds() - self.busy - own)
        return round(100 * others / (seconds * (os.cpu_count() or 1)), 1)
