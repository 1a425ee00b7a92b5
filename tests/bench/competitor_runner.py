"""A competitor's worker and driver processes, and lists for them that have everything in them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hypothesis import strategies as st

from bench.competitors.commands import COMPETITORS
from runtime.settings import Settings
from tests.kit.model_comparison import ADDRESSES

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"
LIMIT = 10
"""Of the contacts that hold an address before it is a role address."""

_PROCESSES = 2
_READY_SECONDS = 60
_JOB_SECONDS = 60

crowds = st.tuples(st.sampled_from([0, 0, 8, 10, 11, 14]), st.sampled_from([1, 2]))
"""So many contacts hold the first address, in this field, and one of their own in the next."""


def world_with(held: list[dict[int, str]], crowd: tuple[int, int]) -> list[dict[int, str]]:
    """The contacts, and those of the crowd."""
    many, number = crowd
    return [
        *held,
        *({number: ADDRESSES[0], number + 1: f"own{n}@example.com"} for n in range(many)),
    ]


class Driver:
    """A competitor's driver process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def job(self, action: str, account_id: int, job_id: int, fields: list[int]) -> None:
        """Ask for a job in chunks of three contacts, and wait for its end."""
        assert self._process.stdin is not None
        asked = {"action": action, "account_id": account_id, "job_id": job_id, "fields": fields}
        self._process.stdin.write(json.dumps(asked | {"chunk_size": 3}).encode() + b"\n")
        answer = await self.answer(_JOB_SECONDS)
        assert set(answer) == {"seconds", "chunks"}, answer

    async def answer(self, seconds: float) -> dict:
        """The next line that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            return json.loads(await self._process.stdout.readline())

    async def end(self) -> int:
        """End its input; gives its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self._process.wait()


@asynccontextmanager
async def running(name: str, settings: Settings, folder: Path) -> AsyncIterator[Driver]:
    """The competitor with two worker processes, ready for jobs."""
    competitor = COMPETITORS[name]
    environment = os.environ | {
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "BENCH_NAMESPACE": settings.queue_namespace,
        "BENCH_PROCESSES": str(_PROCESSES),
    }
    log = (folder / "log").open("wb")
    started = []

    async def start(argv: list[str], **pipes: int) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=ROOT, env=environment, stderr=log, **pipes
        )
        started.append(process)
        return process

    try:
        for argv in competitor.workers(str(PYTHON), _PROCESSES):
            await start(argv, stdout=log.fileno())
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        driver = Driver(await start(competitor.driver(str(PYTHON)), **pipes))
        assert await driver.answer(_READY_SECONDS) == {"ready": True}
        yield driver
        assert await driver.end() == 0
    finally:
        log.close()
        for process in started:
            if process.returncode is None:
                process.terminate()
            await process.wait()
