"""A copy of the code with further actions in it, for workers to run."""

import shutil
from pathlib import Path

from tests.kit.worker_group import ROOT

ROOMS = ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web")


def copy_code(folder: Path, *actions: Path) -> Path:
    """Copy the rooms into a folder, and add actions, each of which is one file."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in actions:
        shutil.copy(file, folder / "actions" / file.name)
    return folder


def copy_checkout(folder: Path) -> Path:
    """Copy everything of the checkout but its history, environments and caches."""
    left_out = shutil.ignore_patterns(
        *(".git", ".venv*", ".sluice", ".hypothesis", ".*_cache", "__pycache__", "*.egg-info")
    )
    return Path(shutil.copytree(ROOT, folder, ignore=left_out))


def code_with(action: str, text: str, folder: Path) -> Path:
    """Copy the code into `folder`, with one more action of that name."""
    code = copy_code(folder / "code")
    (code / "actions" / f"{action}.py").write_text(text)
    return code
