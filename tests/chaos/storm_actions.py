"""The storm's own bulk actions, which the service does not have."""

from pathlib import Path

import actions
from actions.registry import all_actions
from tests.kit.code_copy import copy_code

_CHAOS_ACTIONS = Path(__file__).with_name("actions")


def copy_code_for_chaos(folder: Path) -> Path:
    """The copy that the storm's workers run, with its own actions."""
    return copy_code(folder, *_CHAOS_ACTIONS.glob("*.py"))


def register_chaos_actions() -> None:
    """Let this process, which submits such jobs, know the actions that the copy has."""
    if str(_CHAOS_ACTIONS) not in actions.__path__:
        actions.__path__.append(str(_CHAOS_ACTIONS))
        all_actions.cache_clear()
