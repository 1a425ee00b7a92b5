"""Running the processes of the Procfile under honcho, and ending all of them in time."""

import os
import signal
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from honcho.environ import parse_procfile
from honcho.manager import Manager
from honcho.process import Process

from schemas.errors import SluiceError, said

PROCFILE = Path(__file__).parents[2] / "Procfile"

TERM_SECONDS = 8.0
"""How long processes have after SIGTERM; workers need a fraction of it to end their chunks."""

_POLL_SECONDS = 0.2

_NOT_A_PROCESS = "release"


def run_procfile(
    environment: Mapping[str, str],
    procfile: Path = PROCFILE,
    *,
    left_out: Collection[str] = (),
) -> bool:
    """Run every process of the Procfile until SIGINT, SIGTERM, or one of them ends, but for
    `release` and those that are left out.

    All have ended when this returns: True if they were asked to, False if one ended by itself.
    Also a SIGKILL of this process ends them.
    """
    manager = _Manager()
    for name, command in _processes(procfile).items():
        if name in left_out:
            continue
        manager.add_process(name, command, env=dict(environment), cwd=str(procfile.parent))
    manager.loop()
    return manager.was_asked


def _processes(procfile: Path) -> dict[str, str]:
    try:
        processes = parse_procfile(procfile.read_text(encoding="utf-8")).processes
    except OSError as error:
        raise SluiceError(
            f"There is no Procfile to run: {said(error)}. Nothing was started. Run this from a"
            " checkout of the project, or start `python -m workers` yourself."
        ) from error
    return {name: command for name, command in processes.items() if name != _NOT_A_PROCESS}


class _Process(Process):  # type: ignore[misc]
    """A process that ends with the program that runs it, and its own children with it.

    Honcho waits for the output to end, which a killed process's children would hold open.
    """

    def run(self, *args: Any, **options: Any) -> None:
        Thread(target=self._end_together, daemon=True).start()
        super().run(*args, **options)

    def _end_together(self) -> None:
        parent = parent_process()
        assert parent is not None
        while self._child is None or (parent.is_alive() and self._child.poll() is None):
            time.sleep(_POLL_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            time.sleep(TERM_SECONDS)


class _Manager(Manager):  # type: ignore[misc]
    """Honcho's, with a limit to how long a process may take when all were asked to end."""

    def __init__(self) -> None:
        super().__init__()
        self._process_ctor = _Process
        self.was_asked = False

    def terminate(self) -> None:
        if not self._terminating:
            # Called from a signal while all run, or because one has ended.
            self.was_asked = not self._any_stopped()
            Thread(target=self._kill_in_time, daemon=True).start()
        super().terminate()

    def _kill_in_time(self) -> None:
        time.sleep(TERM_SECONDS)
        self.kill()
