"""Checks log lines against the declarations of `runtime.events`."""

from collections.abc import Iterable, Mapping
from typing import Any

from runtime.event_keys import COMMON_KEYS, DECLARED_EVENTS, KEY_TYPES, Event


class UndeclaredLogLineError(AssertionError):
    """A log line uses an event or a key that `runtime.events` does not declare."""


def require_declared(event: Event, keys: dict[str, Any]) -> None:
    """Raise UndeclaredLogLineError for an event, a key or a type that is not declared."""
    if DECLARED_EVENTS.get(event.name) is not event:
        raise UndeclaredLogLineError(f"{event.name} is not in runtime.events")
    if unknown := undeclared_keys(event.name, keys) - {"exc_info"}:
        raise UndeclaredLogLineError(
            f"{event.name} does not declare {', '.join(sorted(unknown))} in runtime.events"
        )
    if wrong := mistyped_keys(keys):
        raise UndeclaredLogLineError(
            f"{event.name} has {', '.join(sorted(wrong))} of another type than KEY_TYPES says"
        )


def undeclared_keys(event: str, keys: Iterable[str]) -> set[str]:
    """Return those of `keys` that the event does not declare."""
    declared = DECLARED_EVENTS[event].keys if event in DECLARED_EVENTS else {}
    return {key for key in keys if key not in declared and key not in COMMON_KEYS}


def mistyped_keys(facts: Mapping[str, object]) -> set[str]:
    """Return the keys whose value is not of the type in `KEY_TYPES`."""
    return {
        key
        for key, value in facts.items()
        if key in KEY_TYPES and value is not None and not _has_type(value, KEY_TYPES[key])
    }


def _has_type(value: object, wanted: type | tuple[type, ...]) -> bool:
    # In Python a bool is an int.
    return isinstance(value, wanted) and (isinstance(value, bool) is (wanted is bool))
