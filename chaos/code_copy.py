"""A copy of the code with further actions in it, for workers to run."""

import shutil
from pathlib import Path

import actions
from actions.registry import all_actions
from chaos.worker_group import ROOT

ROOMS = ("schemas", "actions", "db", "runtime", "workers", "producers")

_STORM_ACTIONS = Path(__file__).with_name("actions")


def copy_code(folder: Path, *actions: Path) -> Path:
    """Copy the rooms into a folder, and add actions, each of which is one file."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in actions:
        shutil.copy(file, folder / "actions" / file.name)
    return folder


def copy_code_for_storm(folder: Path) -> Path:
    """The copy that the storm's workers run, with its own actions."""
    return copy_code(folder, *_STORM_ACTIONS.glob("*.py"))


def know_storm_actions() -> None:
    """Let this process, which submits such jobs, know the actions that the copy has."""
    if str(_STORM_ACTIONS) not in actions.__path__:
        actions.__path__.append(str(_STORM_ACTIONS))
        all_actions.cache_clear()
