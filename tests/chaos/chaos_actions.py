"""The bulk actions that only a chaos run has."""

from pathlib import Path

import actions
from actions.registry import all_actions
from tests.kit.code_copy import copy_code

_CHAOS_ACTIONS = Path(__file__).with_name("actions")


def copy_code_for_chaos(folder: Path) -> Path:
    """Copy the code for the workers of a chaos run, with its own actions added."""
    return copy_code(folder, *_CHAOS_ACTIONS.glob("*.py"))


def register_chaos_actions() -> None:
    """Register these actions in this process, which submits such jobs."""
    if str(_CHAOS_ACTIONS) not in actions.__path__:
        actions.__path__.append(str(_CHAOS_ACTIONS))
        all_actions.cache_clear()
