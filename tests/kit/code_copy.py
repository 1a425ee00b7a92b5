"""A copy of the code with further actions in it, for workers to run."""

import shutil
from pathlib import Path

from tests.kit.worker_group import ROOT

ROOMS = ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web")

_HALF_COMPILED = "*.pyc.*"
"""What another process is writing at the moment, and renames when it has."""


def copy_code(folder: Path, *actions: Path) -> Path:
    """Copy the rooms into a folder, and add actions, each of which is one file.

    A copied file keeps its time, so that what is compiled already is valid there too.
    """
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns(_HALF_COMPILED))
    for file in actions:
        shutil.copy(file, folder / "actions" / file.name)
    return folder


def copy_checkout(folder: Path) -> Path:
    """Copy everything of the checkout but its history, environments and tools' caches."""
    left_out = shutil.ignore_patterns(
        *(".git", ".venv*", ".sluice", ".hypothesis", ".*_cache", "*.egg-info", _HALF_COMPILED)
    )
    return Path(shutil.copytree(ROOT, folder, ignore=left_out))


def code_with(action: str, text: str, folder: Path) -> Path:
    """Copy the code into `folder`, with one more action of that name."""
    code = copy_code(folder / "code")
    (code / "actions" / f"{action}.py").write_text(text)
    return code
