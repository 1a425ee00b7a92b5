"""Processes that are forked from one with all imports done.

A worker or web process spends most of its start on imports. A forked process runs the same program
with its own environment, session and log. `sluice up`, chaos runs, and tests with another copy of
the code start processes the normal way.
"""

import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self

from tests.kit.worker_group import ROOT

_PRELOADED = (
    *("aiosql", "alembic", "asyncpg", "email_validator", "fastapi", "httpcore", "httptools"),
    *("psutil", "pydantic_settings", "redis.asyncio", "structlog", "uvicorn", "uvloop"),
    *("actions.registry", "db.import_chunks", "db.chunks", "db.migrate", "runtime.logs"),
    *("producers.hooks", "producers.uploads", "web.form_parser", "web.server_protocol"),
)
"""dramatiq and its importers are left out: dramatiq reads its settings from the environment on
import.
"""

_POLL_SECONDS = 0.01


class ForkedProcess:
    """A process forked by the forker, with the interface of `subprocess.Popen`."""

    def __init__(self, forker: "Forker", pid: int) -> None:
        self._forker = forker
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._forker.ask({"status_of": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        ends = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if ends is not None and time.monotonic() > ends:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(_POLL_SECONDS)
        return status


class Forker:
    """The process that has imported everything and forks on request."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        self._control, child_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with child_socket:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kit.forking", str(child_socket.fileno())],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                pass_fds=[child_socket.fileno()],
                # Ctrl-C is meant for the tests, which end the forker.
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait()

    def popen(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: IO[bytes], **_: Any
    ) -> ForkedProcess:
        """Run `python -m MODULE` of this code, with the arguments of Popen."""
        assert argv[:2] == [sys.executable, "-m"]
        assert cwd == ROOT
        wanted = {"module": argv[2], "env": dict(env)}
        return ForkedProcess(self, self.ask(wanted, stdout.fileno()))

    def ask(self, what: dict[str, Any], *files: int) -> Any:
        """Return the forker's answer."""
        with self._one_at_a_time:
            socket.send_fds(self._control, [json.dumps(what).encode()], files)
            return json.loads(self._control.recv(65_536))


def main(control: socket.socket) -> None:
    """Fork on request until the connection is closed."""
    for name in _PRELOADED:
        import_module(name)
    ended: dict[int, int] = {}
    while True:
        text, files, *_ = socket.recv_fds(control, 65_536, 1)
        if not text:
            return
        asked = json.loads(text)
        if "module" in asked:
            pid = os.fork()
            if pid == 0:
                _run_module(asked["module"], asked["env"], files[0], control)
            os.close(files[0])
            answer: int | None = pid
        else:
            with suppress(ChildProcessError):
                while (found := os.waitpid(-1, os.WNOHANG))[0]:
                    ended[found[0]] = os.waitstatus_to_exitcode(found[1])
            answer = ended.get(asked["status_of"])
        control.send(json.dumps(answer).encode())


def _run_module(module: str, env: dict[str, str], output: int, control: socket.socket) -> None:
    """Run the module as the main program of this process, and exit with its status."""
    control.close()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for there, here in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(there, here)
    os.close(output)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = []
    status: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
