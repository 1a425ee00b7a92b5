"""A copy of the code with the storm's own actions in it, for its workers to run."""

import shutil
from pathlib import Path

import actions
from actions.registry import all_actions
from chaos.worker_group import ROOT

ROOMS = ("schemas", "actions", "db", "runtime", "workers", "producers")

_STORM_ACTIONS = Path(__file__).with_name("actions")


def copy_code(folder: Path) -> Path:
    """Copy the rooms into a folder and add the storm's actions, each of which is one file."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in _STORM_ACTIONS.glob("*.py"):
        shutil.copy(file, folder / "actions" / file.name)
    return folder


def know_storm_actions() -> None:
    """Let this process, which submits such jobs, know the actions that the copy has."""
    if str(_STORM_ACTIONS) not in actions.__path__:
        actions.__path__.append(str(_STORM_ACTIONS))
        all_actions.cache_clear()
