"""Run commands in a terminal of a chosen width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

SLUICE = (sys.executable, "-m", "cli")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINES = 50


class TerminalOutput(NamedTuple):
    """Terminal output as text without colors and with them."""

    status: int
    text: str
    raw: str

    @property
    def lines(self) -> list[str]:
        """Return its lines, without those that a progress bar has overwritten."""
        return [line.rpartition("\r")[2] for line in self.text.split("\n")]


def run_in_terminal(
    *arguments: str, columns: int, command: Sequence[str] = SLUICE
) -> TerminalOutput:
    """Return the command's output, including standard error, on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [*command, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        raw = b""
        # Linux reports the closed other end as an error.
        with suppress(OSError):
            while block := os.read(ours, 65_536):
                raw += block
    os.close(ours)
    text = raw.decode().replace("\r\n", "\n")
    return TerminalOutput(process.returncode, _ESCAPE.sub("", text), text)
