"""`sluice up` runs everything, and leaves no process behind, however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread

import httpx
import psutil
import pytest

from cli.up import find_port, redact_password
from runtime.devservers.process import command_line
from runtime.settings import Settings
from schemas.errors import SluiceError
from tests.kit.folders import server_folder
from tests.kit.log_lines import undeclared_keys
from tests.kit.waiting import wait_until
from tests.kit.web_process import unused_port

UP = [sys.executable, "-c", "from cli.up import up; up()"]


class Running:
    """A `sluice up` in a folder of its own."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.lines: list[str] = []
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(self.process.stdout)

    def wait_for_workers(self) -> list[psutil.Process]:
        """Return the child processes once both workers are ready."""
        wait_until(
            lambda: sum("worker.started" in line for line in self.lines) >= 2,
            deadline_seconds=30,
            what="two workers start",
        )
        return psutil.Process(self.process.pid).children(recursive=True)

    def remaining_processes(self) -> list[psutil.Process]:
        """Return what still runs in its folder: servers, keeper and workers."""
        found = []
        for process in psutil.process_iter():
            words = command_line(process)
            with suppress(psutil.Error):
                words.append(process.environ().get("DATABASE_URL", ""))
            if any(str(self.folder) in word for word in words):
                found.append(process)
        return found


@pytest.fixture
def running() -> Iterator[Running]:
    """Run `sluice up` in an empty folder, without settings from the environment."""
    unwanted = ("DATABASE_URL", "REDIS_URL", "LOG_FORMAT", "WORKER_PROCESSES")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    # A port that no other process takes before the web process starts.
    environment["PORT"] = str(unused_port())
    with (
        server_folder() as folder,
        subprocess.Popen(
            UP,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        running = Running(process, folder)
        yield running
        process.kill()
        with assert_all_gone(running, within_seconds=20):
            pass


@contextmanager
def assert_all_gone(running: Running, *, within_seconds: float) -> Iterator[None]:
    """Assert that no process of the run is left within this time after the block."""
    yield
    wait_until(
        lambda: not running.remaining_processes(),
        deadline_seconds=within_seconds,
        what="every process is gone",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_ends_on_a_signal(running: Running, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end every process without force, with exit status 0."""
    assert running.wait_for_workers()
    running.process.send_signal(number)
    assert running.process.wait(timeout=60) == 0
    assert running.remaining_processes() == []
    assert sum("worker.stopped" in line for line in running.lines) == 2
    lines = [json.loads(line.partition("| ")[2]) for line in running.lines if "| {" in line]
    assert lines
    assert not any(undeclared_keys(line["event"], line) for line in lines)


def test_the_printed_url_answers(running: Running) -> None:
    """The printed URL answers soon after the workers are ready."""
    assert running.wait_for_workers()
    shown = next(line.split()[1] for line in running.lines if line.startswith("HTTP "))

    def ready() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{shown}/readyz").status_code == 200
        return False

    wait_until(ready, deadline_seconds=30, what="the web process is ready")


def test_a_port_in_use_is_left_alone() -> None:
    """A port in use is replaced by a free one, unless it was set explicitly: then an error names
    it.
    """
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        unasked = Settings().model_copy(update={"port": port})
        unasked.model_fields_set.discard("port")
        assert find_port(unasked) not in {port, 0}
        with pytest.raises(SluiceError, match=str(port)):
            find_port(Settings(port=port))
    assert find_port(Settings(port=port)) == port


def test_up_ends_when_a_process_dies(running: Running) -> None:
    """If a worker dies, the exit status is 1, and all other processes are stopped too."""
    workers = [p for p in running.wait_for_workers() if command_line(p)[-2:] == ["-m", "workers"]]
    min(workers, key=psutil.Process.create_time).kill()
    assert running.process.wait(timeout=60) == 1
    assert running.remaining_processes() == []


def test_killing_up_ends_all_processes(running: Running) -> None:
    """Neither workers nor servers outlive a kill -9 of `sluice up`."""
    assert running.wait_for_workers()
    with assert_all_gone(running, within_seconds=15):
        running.process.kill()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://me:hunter2@db.example.org/x", "postgres://me@db.example.org/x"),
        ("postgres://me:hun:ter@2@db.example.org/x", "postgres://me@db.example.org/x"),
        ("redis://:hunter2@localhost:6379", "redis://@localhost:6379"),
        (
            "postgresql://h/x?user=me&password=hunter2&a=b",
            "postgresql://h/x?user=me&password=...&a=b",
        ),
        ("unix:///tmp/a/valkey.sock", "unix:///tmp/a/valkey.sock"),
        ("postgresql://postgres@/postgres?host=/a/b", "postgresql://postgres@/postgres?host=/a/b"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    """The printed URL identifies the server, and does not contain the password."""
    assert redact_password(url) == shown
