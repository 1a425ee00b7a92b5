"""Install the packages of a lock file with this Python, and show how far that is.

On a terminal one line is rewritten; elsewhere each ten packages have a line. What pip itself says
of errors and warnings is passed on.
"""
# ruff: noqa: INP001 - a script that is run before anything can be imported

import os
import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

_EVERY = 10
_LOOK_SECONDS = 0.5
_found = re.compile(r"(?:Collecting|Processing) (?:\S*/)?([A-Za-z0-9_.]+(?:-[A-Za-z_.]+)*)").match


def main(lock: str) -> int:
    """Give pip's exit status."""
    total = Path(lock).read_text(encoding="utf-8").count("==")
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--require-hashes", "--requirement", lock]
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=unbuffered) as pip:  # noqa: S603
        assert pip.stdout is not None
        number = 0
        for line in pip.stdout:
            if found := _found(line):
                number += 1
                _show(f"found {number} of {total}: {found[1]}", number)
            if line.startswith("Installing collected"):
                break
        _show_installed(pip, total)
        pip.stdout.read()
    return pip.returncode


def _show_installed(pip: subprocess.Popen[str], total: int) -> None:
    """Pip says nothing while it installs, and the packages appear."""
    packages = Path(sysconfig.get_path("purelib"))
    shown = 0
    while pip.poll() is None:
        number = min(sum(1 for _ in packages.glob("*.dist-info")), total)
        if number // _EVERY > shown // _EVERY or sys.stderr.isatty():
            _show(f"installed {number} of {total}", _EVERY)
            shown = number
        time.sleep(_LOOK_SECONDS)
    _show("packages: done" if pip.returncode == 0 else "packages: failed", _EVERY, end="\n")


def _show(text: str, number: int, end: str = "") -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K  {text[:70]}{end}")
    elif number % _EVERY == 0:
        sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
