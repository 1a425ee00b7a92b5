"""The actions that exist: those that the modules of this package define.

No action is registered by hand. `sluice new-action NAME` writes a module; see `docs/extending.md`.
"""

import importlib
import inspect
import pkgutil
from functools import cache

import actions
from actions.bulk_action import BulkAction
from schemas.errors import NotFound
from schemas.outcomes import Reason


@cache
def all_actions() -> dict[str, BulkAction]:
    """Return every action by its name."""
    found: dict[str, BulkAction] = {}
    for module_info in pkgutil.iter_modules(actions.__path__):
        module = importlib.import_module(f"actions.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, BulkAction) and not inspect.isabstract(member):
                found[member.name] = member()
    return dict(sorted(found.items()))


def get_action(name: str) -> BulkAction:
    """Return the action called `name`; raises NotFound, which lists the known names."""
    try:
        return all_actions()[name]
    except KeyError:
        raise NotFound(
            f"The action {name!r} does not exist. Choose one of {', '.join(all_actions())}."
        ) from None


def describe_reason(reason: str | None) -> str:
    """Return what a reason means, in words: the service's own, or an action's."""
    return _meanings().get(reason or "", "")


@cache
def _meanings() -> dict[str, str]:
    meanings = {
        transition.decision.reason: transition.because
        for action in all_actions().values()
        for transition in action.transitions
    }
    return {reason: text for reason, text in meanings.items() if reason} | {
        reason: reason.meaning for reason in Reason
    }
