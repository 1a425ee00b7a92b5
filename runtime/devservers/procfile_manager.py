"""Honcho's process manager with a time limit. Import it only if honcho is installed."""

import os
import re
import signal
import time
from contextlib import suppress
from multiprocessing import parent_process
from threading import Thread
from typing import Any

from honcho.manager import Manager
from honcho.process import Process

from runtime.devservers.procfile import TERMINATE_TIMEOUT_SECONDS

_POLL_SECONDS = 0.2


class _Process(Process):  # type: ignore[misc]
    """A process that is ended, with its children, when the program that started it ends.

    Honcho waits for the output to end, which a killed process's children would hold open.
    """

    def run(self, *args: Any, **options: Any) -> None:
        Thread(target=self._end_with_parent, daemon=True).start()
        super().run(*args, **options)

    def _end_with_parent(self) -> None:
        parent = parent_process()
        assert parent is not None
        while self._child is None or (parent.is_alive() and self._child.poll() is None):
            time.sleep(_POLL_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            time.sleep(TERMINATE_TIMEOUT_SECONDS)


class ProcfileManager(Manager):  # type: ignore[misc]
    """Honcho's manager, extended: it kills processes that do not end in time."""

    def __init__(self) -> None:
        super().__init__()
        self._process_ctor = _Process
        self.was_requested = False

    def terminate(self) -> None:
        """Ask all processes to end, and kill those that are still there when the time is up."""
        if not self._terminating:
            # Called by a signal while all run, or because one has ended.
            self.was_requested = not self._any_stopped()
            Thread(target=self._kill_in_time, daemon=True).start()
        super().terminate()

    def _system_print(self, data: str) -> None:
        """Show the exit status only if a process ended by itself."""
        status = "" if self.was_requested else r" with exit status \1"
        super()._system_print(re.sub(r" \(rc=(-?\d+)\)", status, data))

    def _kill_in_time(self) -> None:
        time.sleep(TERMINATE_TIMEOUT_SECONDS)
        self.kill()
