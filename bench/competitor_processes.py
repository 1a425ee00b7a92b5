"""Competitors with processes of their own: workers, and a driver that sends them jobs."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from bench.competitors.commands import COMPETITORS
from runtime.settings import Settings
from schemas.errors import SettingsError, SluiceError
from tests.kit.worker_group import ROOT

PYTHON = ROOT / ".venv-bench" / "bin" / "python"

_READY_SECONDS = 60.0
_LOG_CHARACTERS = 2_000
"""How much of the end of the processes' log an error shows."""

Ask: TypeAlias = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class CompetitorFailed(SluiceError):
    """A competitor failed; the message ends with the end of its log."""


def require_installed() -> None:
    """Raise SettingsError if the competitors' environment is missing."""
    if not PYTHON.exists():
        raise SettingsError(
            "The competitors are not installed. Nothing was measured. Run `make bench`, which"
            " installs them in .venv-bench, or do without: `--only one_statement,sluice_2`."
        )


@asynccontextmanager
async def running_competitor(
    name: str, processes: int, settings: Settings, folder: Path
) -> AsyncIterator[tuple[Ask, list[int]]]:
    """Start the competitor. Yield a function that queries its driver, and the ids of its worker
    processes.
    """
    require_installed()
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "BENCH_NAMESPACE": settings.queue_namespace,
        "BENCH_PROCESSES": str(processes),
        "TMPDIR": str(folder),
    }
    path = folder / f"{name}.log"
    async with AsyncExitStack() as stack:
        log = stack.enter_context(path.open("wb"))

        async def start(argv: Sequence[str], **pipes: Any) -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(
                *argv, cwd=ROOT, env=environment, stderr=log, start_new_session=True, **pipes
            )
            stack.push_async_callback(_kill, process)
            return process

        workers = [
            await start(argv, stdin=asyncio.subprocess.DEVNULL, stdout=log.fileno())
            for argv in COMPETITORS[name].workers(str(PYTHON), processes)
        ]
        pipe = asyncio.subprocess.PIPE
        driver = await start(COMPETITORS[name].driver(str(PYTHON)), stdin=pipe, stdout=pipe)
        async with asyncio.timeout(_READY_SECONDS):
            await _answer(driver, path, "ready")

        async def ask(request: dict[str, Any]) -> dict[str, Any]:
            assert driver.stdin is not None
            driver.stdin.write(json.dumps(request).encode() + b"\n")
            return await _answer(driver, path, "seconds")

        yield ask, _working_ids(workers)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process and its group. Nothing of a run is kept, so an orderly end is not needed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _answer(driver: asyncio.subprocess.Process, log: Path, wanted: str) -> dict[str, Any]:
    """Return the driver's next line. Raise CompetitorFailed if it lacks a required key."""
    assert driver.stdout is not None
    line = await driver.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
    if wanted not in answer:
        raise CompetitorFailed(f"{log.stem}: {answer.get('error', answer)}\n{_end_of(log)}")
    return answer


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]


def _working_ids(started: Sequence[asyncio.subprocess.Process]) -> list[int]:
    """Return the ids of each process's children, or its own id if it has none."""
    found: list[int] = []
    for process in started:
        children = psutil.Process(process.pid).children(recursive=True)
        found += [child.pid for child in children] or [process.pid]
    return found
