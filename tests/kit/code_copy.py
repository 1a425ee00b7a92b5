"""A copy of the code with additional actions, for worker processes."""

import shutil
from pathlib import Path

from tests.kit.worker_group import ROOT

ROOMS = ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web")

_HALF_COMPILED = "*.pyc.*"
"""Temporary files that another process is writing and will rename."""


def copy_code(folder: Path, *actions: Path) -> Path:
    """Copy the rooms into a folder and add the action files.

    A copied file keeps its modification time, so that its compiled form stays valid.
    """
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns(_HALF_COMPILED))
    for file in actions:
        shutil.copy(file, folder / "actions" / file.name)
    return folder


def copy_checkout(folder: Path) -> Path:
    """Copy the checkout without its history, environments and tool caches."""
    left_out = shutil.ignore_patterns(
        *(".git", ".venv*", ".sluice", ".hypothesis", ".*_cache", "*.egg-info", _HALF_COMPILED)
    )
    return Path(shutil.copytree(ROOT, folder, ignore=left_out))


def code_with(action: str, text: str, folder: Path) -> Path:
    """Copy the code into `folder`, and add an action of that name."""
    code = copy_code(folder / "code")
    (code / "actions" / f"{action}.py").write_text(text)
    return code
