"""One embedded server as a process: its account, its state, its start and its stop."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from runtime.private_files import open_private
from schemas.errors import ServerStartError

START_SECONDS = 300.0
"""Postgres may have to replay its WAL after a power cut."""
STOP_SECONDS = 60.0
_LOG_TAIL_LINES = 20
_LONG_LOG_BYTES = 5_000_000

_STARTED: list[subprocess.Popen[bytes]] = []
"""The servers that this process has started. They outlive it; Python would warn of an unreferenced
one."""


class ServerAccount(NamedTuple):
    """The system account that servers run as. Postgres refuses to run as root."""

    uid: int
    gid: int


@dataclass(frozen=True)
class ServerProcess:
    """A server that runs in `directory`, which its command line names.

    The server itself writes `pid_file`. `ready` returns whether it accepts connections. The
    `stop_signals` are tried in turn, each for `STOP_SECONDS`.
    """

    name: str
    argv: Sequence[str]
    directory: Path
    pid_file: Path
    ready: Callable[[], bool]
    log: Path
    stop_signals: Sequence[signal.Signals]

    def find_process(self) -> psutil.Process | None:
        """Return the live server, no matter which process started it; None if there is none.

        A recycled process id is detected by its command line, which every account may read.
        """
        try:
            process = psutil.Process(self._pid())
        except (OSError, ValueError, psutil.Error):
            return None
        return process if str(self.directory) in command_line(process) else None

    def _pid(self) -> int:
        return int(self.pid_file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])

    def _is_pid_recycled(self) -> bool:
        """Return whether the file names another process's id, as it can after a power cut.

        The file of a server that was only killed must stay: by it, Postgres finds sessions that
        outlived their server, and waits for them.
        """
        try:
            return psutil.pid_exists(self._pid()) and self.find_process() is None
        except (OSError, ValueError):
            return True

    def start(self, owner: ServerAccount) -> None:
        """Start the server as `owner` and wait until it is ready.

        Raises ServerStartError with the end of its log when it does not, and leaves none behind.
        """
        # Reap zombies, which would look like another process with the same id.
        _reap()
        if self._is_pid_recycled():
            self.pid_file.unlink(missing_ok=True)
        with open(self.log, "ab", opener=open_private) as log:
            if self._log_is_long():
                log.truncate(0)
            process = subprocess.Popen(  # noqa: S603
                self.argv,
                cwd=self.directory,
                env=SERVER_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                **run_as(owner),
            )
        _STARTED.append(process)
        deadline = time.monotonic() + START_SECONDS
        while not (self.find_process() and self.ready()):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise ServerStartError(self._start_failure(process.returncode))
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop the server if it runs; returns when it is gone."""
        process = self.find_process()
        for stop_signal in (*self.stop_signals, signal.SIGKILL):
            if process is None or not is_alive(process):
                break
            with suppress(psutil.NoSuchProcess):
                process.send_signal(stop_signal)
            deadline = time.monotonic() + STOP_SECONDS
            while is_alive(process) and time.monotonic() < deadline:
                time.sleep(0.01)
        _reap()

    def _log_is_long(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > _LONG_LOG_BYTES

    def _start_failure(self, exit_status: int) -> str:
        try:
            tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[
                -_LOG_TAIL_LINES:
            ]
        except OSError:
            tail = []
        return (
            f"The embedded {self.name} did not start (exit status {exit_status}). Your data in"
            f" {self.directory} was kept. The end of its log, {self.log}:\n"
            + "".join(f"  {line}\n" for line in tail)
            + "Correct the error in it, or set DATABASE_URL and REDIS_URL to your own servers."
        )


def _reap() -> None:
    """Reap the servers that have ended."""
    _STARTED[:] = [process for process in _STARTED if process.poll() is None]


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process can still do anything; a zombie cannot."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Return the words of its command line; none of a process that has ended meanwhile."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


SERVER_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LC_ALL": "C",
    "TZ": "UTC",
}
"""The environment of the servers: nothing from the caller, whose own may hold secrets."""


def run_as(owner: ServerAccount) -> dict[str, Any]:
    """Return Popen arguments that make a process of root's run as `owner`; none for other users."""
    if os.geteuid() != 0:
        return {}
    return {"user": owner.uid, "group": owner.gid, "extra_groups": ()}
