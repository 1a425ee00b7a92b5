"""Worker processes for the duration of one command, with their log in a file."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

from runtime.devservers.procfile import TERMINATE_TIMEOUT_SECONDS, require_honcho, run_procfile
from schemas.errors import SluiceError

START_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.05


@contextmanager
def background_workers(environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run the worker processes of the Procfile while the context lasts.

    They end with this process, however it ends. Raises SluiceError if they do not start.
    """
    require_honcho()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(dict(environment), str(log)), name="workers"
    )
    process.start()
    try:
        _wait_until_ready(process, log)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        process.join(2 * TERMINATE_TIMEOUT_SECONDS)
        process.kill()
        process.join()


def read_log_lines(log: Path, event: str) -> list[str]:
    """Return the lines of one event in the log."""
    lines = []
    with suppress(FileNotFoundError):
        for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
            line = text[text.find("{") :]
            if f'"event": "{event}"' in line:
                lines.append(line)
    return lines


def _wait_until_ready(process: Any, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not read_log_lines(log, "worker.started"):
        if not process.is_alive() or time.monotonic() > deadline:
            end = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
            raise SluiceError(f"The workers did not start. Nothing was done. Their log:\n{end}")
        time.sleep(_POLL_SECONDS)


def _run(environment: dict[str, str], log: str) -> None:
    """Run in a child process until SIGTERM or the end of the parent."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    Thread(target=_end_with_parent, daemon=True).start()
    run_procfile(environment, excluded={"web"})


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
