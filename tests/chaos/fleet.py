"""The process groups of a chaos run: workers and a web process, restarted when they end."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from runtime.settings import Settings
from tests.chaos.acknowledgements import Violation
from tests.chaos.contact_lists import LIMIT
from tests.chaos.dyno_supervisor import ENDS, PLATFORM_KILLS_AFTER, DynoSupervisor, GroupExit
from tests.kit.web_process import WebGroup, unused_port
from tests.kit.worker_group import WorkerGroup

PROCESSES = (2, 1, 1)
"""How many worker processes each group has."""

_ENVIRONMENT = {
    "WORKER_THREADS": "2",
    # Small, so that a job has many chunks and a fault meets some of them unfinished.
    "CHUNK_SIZE": "500",
    "JOB_CONCURRENCY": "3",
    "SLICE_SECONDS": "0.3",
    "RETRY_SECONDS": "0.3",
    "WATCHDOG_SECONDS": "5",
    "ROLE_ADDRESS_LIMIT": str(LIMIT),
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
    # The receiver of completion webhooks listens on this machine.
    "ALLOW_PRIVATE_WEBHOOKS": "true",
    # A process that does not end is aborted and then writes the stacks of its threads.
    "PYTHONFAULTHANDLER": "1",
}

READY_SECONDS = 60.0


class Fleet:
    """Keeps every group running until it is stopped."""

    def __init__(self, settings: Settings, code: Path, logs: Path, tokens: Path) -> None:
        assert settings.signing_keys is not None
        self._settings = settings
        self._code = code
        self._logs = logs
        self._tokens = tokens
        self._port = unused_port()
        self._environment = _ENVIRONMENT | {
            "SIGNING_KEYS": settings.signing_keys.get_secret_value()
        }
        self._workers = [self._worker_dyno(n, count) for n, count in enumerate(PROCESSES, start=1)]
        self._web = DynoSupervisor(self._start_web, processes=1, was_killed_by_work=lambda _: False)
        self._dynos = [*self._workers, self._web]
        self._supervision: asyncio.Task[None] | None = None

    @property
    def web_url(self) -> str:
        """Return the URL of the current web process."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def ended(self) -> list[GroupExit]:
        """Return the groups that have ended so far."""
        return [ended for dyno in self._dynos for ended in dyno.ended]

    @property
    def violations(self) -> list[Violation]:
        """Return the violations in the ways that groups ended."""
        return [violation for dyno in self._dynos for violation in dyno.violations]

    def start(self) -> None:
        """Start every group, and restart each whenever it ends."""
        for dyno in self._dynos:
            dyno.start()
        self._supervision = asyncio.create_task(self._keep_running())

    async def _keep_running(self) -> None:
        async with asyncio.TaskGroup() as group:
            for dyno in self._dynos:
                group.create_task(dyno.keep_running())

    async def is_ready(self) -> bool:
        """Return whether every process has started."""
        return all(dyno.is_ready() for dyno in self._dynos)

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes that have started and are running."""
        return [
            process
            for dyno in self._workers
            if dyno.group is not None
            for process in dyno.group.workers()
            if process.pid in dyno.group.worker_ids() and _is_running(process)
        ]

    def web(self) -> list[psutil.Process]:
        """Return the web process, unless it has just ended."""
        return [] if self._web.group is None else self._web.group.members()

    def end_worker(self, process: psutil.Process) -> None:
        """Kill one worker process, after which its group may end."""
        for dyno in self._workers:
            if dyno.group and process.pid in dyno.group.worker_ids():
                dyno.was_injected = True
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def end_group(self, draw: float, signals: Sequence[signal.Signals]) -> int:
        """Send the signals to every process of a random worker group; return its number."""
        place = int(draw * len(self._workers))
        self._workers[place].end(signals)
        return place + 1

    def end_web(self, signals: Sequence[signal.Signals]) -> None:
        """Send the signals to the web process."""
        self._web.end(signals)

    async def stop(self) -> list[Violation]:
        """End the fleet as a platform does; return violations for processes that did not end in
        time.
        """
        await self._stop_restarting()
        groups = [dyno.group for dyno in self._dynos if dyno.group is not None]
        for group in groups:
            with suppress(ProcessLookupError):
                group.signal_all(signal.SIGTERM)
        left = []
        for group in groups:
            try:
                await asyncio.to_thread(group.wait_gone, deadline_seconds=PLATFORM_KILLS_AFTER)
            except TimeoutError as error:
                left.append(Violation(ENDS, f"{group.log.name}: {error}"))
                group.abort()
        return left

    async def _stop_restarting(self) -> None:
        if self._supervision is not None:
            self._supervision.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervision

    def kill(self) -> None:
        """Kill the remaining processes."""
        if self._supervision is not None:
            self._supervision.cancel()
        for dyno in self._dynos:
            dyno.kill()

    def _worker_dyno(self, number: int, processes: int) -> DynoSupervisor:
        def start(run: int) -> WorkerGroup:
            return WorkerGroup(
                self._settings,
                self._logs / f"group-{number}.{run:03}.log",
                code=self._code,
                WORKER_PROCESSES=str(processes),
                DYNO=f"worker.{number}",
                **self._environment,
            )

        return DynoSupervisor(
            start, processes=processes, was_killed_by_work=self._was_killed_by_work
        )

    def _start_web(self, run: int) -> WorkerGroup:
        return WebGroup(
            self._settings,
            self._logs / f"web.{run:03}.log",
            code=self._code,
            PORT=str(self._port),
            WEB_PROCESSES="1",
            **self._environment,
        )

    def _was_killed_by_work(self, ids: Sequence[int]) -> bool:
        """Return whether a worker was killed by its own work or by the watchdog, which leave a
        file.
        """
        return any(
            list(self._tokens.glob(f"*/{what}.{pid}"))
            for what in ("killed", "blocked")
            for pid in ids
        )


def _is_running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
