"""The actions that exist: whatever the modules of this package define."""

import importlib
import inspect
import pkgutil
from functools import cache

import actions
from actions.bulk_action import BulkAction
from schemas.errors import NotFound


@cache
def all_actions() -> dict[str, BulkAction]:
    """Every action by its name."""
    found: dict[str, BulkAction] = {}
    for module_info in pkgutil.iter_modules(actions.__path__):
        module = importlib.import_module(f"actions.{module_info.name}")
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, BulkAction) and not inspect.isabstract(member):
                found[member.name] = member()
    return dict(sorted(found.items()))


def action_named(name: str) -> BulkAction:
    """The action called `name`; raises NotFound with the names there are."""
    try:
        return all_actions()[name]
    except KeyError:
        raise NotFound(
            f"There is no action {name!r}. There are: {', '.join(all_actions())}."
        ) from None
