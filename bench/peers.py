"""Competitors that have processes of their own: workers, and a driver that hands them jobs."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

from bench.competitors.commands import COMPETITORS
from runtime.settings import Settings
from schemas.errors import SettingsError, SluiceError
from tests.kit.worker_group import ROOT

PYTHON = ROOT / ".venv-bench" / "bin" / "python"

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_LOG_END = 2_000
"""So many characters of the processes' log are shown where something went wrong."""


class PeerFailed(SluiceError):
    """A competitor did not do what it was asked for; says so with the end of its log."""


class RunningPeer:
    """A competitor whose workers and driver are ready."""

    def __init__(
        self, driver: asyncio.subprocess.Process, workers: Sequence[int], log: Path
    ) -> None:
        self._driver = driver
        self._log = log
        self.workers = workers

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have a job done, and give the driver's answer; raises PeerFailed."""
        assert self._driver.stdin is not None
        self._driver.stdin.write(json.dumps(request).encode() + b"\n")
        return await answer(self._driver, self._log, wanted="seconds")


@asynccontextmanager
async def running_peer(
    name: str, processes: int, settings: Settings, folder: Path
) -> AsyncIterator[RunningPeer]:
    """The competitor with so many worker processes; all have ended when the context has."""
    require_installed()
    competitor = COMPETITORS[name]
    environment = _environment(settings, processes, folder)
    log_file = folder / f"{name}.log"
    async with AsyncExitStack() as stack:
        log = stack.enter_context(log_file.open("wb"))
        started = [
            await stack.enter_async_context(_started(argv, environment, log))
            for argv in competitor.workers(str(PYTHON), processes)
        ]
        driver = await stack.enter_async_context(
            _started(competitor.driver(str(PYTHON)), environment, log, talking=True)
        )
        async with asyncio.timeout(_READY_SECONDS):
            await answer(driver, log_file, wanted="ready")
        yield RunningPeer(driver, _working(started), log_file)


def require_installed() -> None:
    """Raise SettingsError where the competitors' environment is missing."""
    if not PYTHON.exists():
        raise SettingsError(
            "The competitors are not installed; nothing was measured. `make bench` sets them up"
            " in .venv-bench, and `--only one_statement,sluice_2` does without them."
        )


async def answer(driver: asyncio.subprocess.Process, log: Path, *, wanted: str) -> dict[str, Any]:
    """The driver's next line, which has to say what is wanted; raises PeerFailed."""
    assert driver.stdout is not None
    line = await driver.stdout.readline()
    said: dict[str, Any] = json.loads(line) if line else {"error": "it ended"}
    if wanted not in said:
        raise PeerFailed(f"{log.stem}: {said.get('error', said)}\n{_end_of(log)}")
    return said


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-_LOG_END:]


def _environment(settings: Settings, processes: int, folder: Path) -> dict[str, str]:
    """What the processes see; nothing else of this one's environment concerns them."""
    return {
        "PATH": os.environ["PATH"],
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "BENCH_NAMESPACE": settings.queue_namespace,
        "BENCH_PROCESSES": str(processes),
        # What they leave behind there goes with the rest.
        "TMPDIR": str(folder),
    }


@asynccontextmanager
async def _started(
    argv: Sequence[str], environment: dict[str, str], log: IO[bytes], *, talking: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a group of its own, which ends with the context."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.PIPE if talking else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if talking else log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # Nothing of a run is kept, so nobody is asked to come to an end in order.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()


def _working(started: Sequence[asyncio.subprocess.Process]) -> list[int]:
    """The processes that work: the children where there are some, or else the process itself."""
    found: list[int] = []
    for process in started:
        children = psutil.Process(process.pid).children(recursive=True)
        found += [child.pid for child in children] or [process.pid]
    return found
