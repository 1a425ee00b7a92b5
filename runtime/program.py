"""How to call `sluice` on this machine, so that suggested commands work as printed."""

import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "sluice"
_MODULE = "cli"
_suggested = re.compile(rf"`{NAME}(?=[ `])")


def program_name() -> str:
    """Return what to type for `sluice` here.

    That is its name if PATH leads to this very installation, else the path of its script, else
    Python with the module, as on a dyno.
    """
    python = Path(sys.executable)
    script = python.with_name(NAME)
    if script.is_file():
        found = shutil.which(NAME)
        # The file on the PATH may be a link to the script.
        is_found = found is not None and Path(found).resolve() == script.resolve()
        return NAME if is_found else _shell_path(script)
    found = shutil.which(python.name)
    # Do not resolve the file: the Python of a virtual environment is a link to another one.
    is_found = found is not None and Path(found).parent.resolve() == python.parent.resolve()
    return f"{python.name if is_found else _shell_path(python)} -m {_MODULE}"


def expand_program_name(text: str) -> str:
    """Rewrite each command in backticks to begin as it must be typed here."""
    return _suggested.sub(lambda _: f"`{program_name()}", text)


def _shell_path(file: Path) -> str:
    """Quote the file's path for a shell, relative to the current folder if it is inside."""
    here = Path.cwd()
    if not file.is_relative_to(here):
        return shlex.quote(str(file))
    below = file.relative_to(here)
    return shlex.quote(str(below) if len(below.parts) > 1 else f"./{below}")
