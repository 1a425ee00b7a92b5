"""An actor has one text form, and each of our own calls names its actor."""

import ast
from pathlib import Path

import pytest

from runtime.events import EVENTS
from schemas.actors import CLI, ActivityEvent, Actor, ActorKind, Via

ACTING = {
    *(
        "submit",
        "opt_out_immediately",
        "submit_import",
        "apply_plan",
    ),
    *("create_key", "revoke_key", "create_hook", "renew_hook_secret", "revoke_hook"),
    *("create_account", "renew_webhook_secret"),
    *("pause", "resume", "cancel"),
}
"""Functions of producers that record an activity with its actor."""

ROOT = Path(__file__).parents[2]
FILES = sorted(file for room in ("producers", "cli", "web") for file in (ROOT / room).rglob("*.py"))


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    """Return the name and node of each call of those functions in the file."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in ACTING:
                found.append((called.id, node))
            elif isinstance(called, ast.Attribute) and ast.unparse(called.value) == "control":
                found.append((called.attr, node))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_our_own_calls_name_their_actor(file):
    """No call of our own uses the default actor, which is for other programs."""
    for name, call in calls(file):
        keywords = {keyword.arg for keyword in call.keywords}
        assert "actor" in keywords or None in keywords, f"{file.name}: {name}"


def test_calls_of_every_acting_function_are_found():
    """The search finds at least one call of each function; HTTP routes pass
    `control` on by name.
    """
    found = {name for file in FILES for name, _ in calls(file)}
    assert found == ACTING


def test_an_actor_has_one_text():
    """The text is the kind, followed by the id if there is one."""
    assert [str(CLI), str(Actor(ActorKind.KEY, Via.HTTP, 7))] == ["cli", "key:7"]
    assert Actor(ActorKind.LINK, Via.ONE_CLICK).log_keys() == {"actor": "link", "via": "one_click"}


def test_activity_events_have_the_names_of_log_events():
    """Each activity event has the name of its log event, and every such log event names the actor.
    The log and `activity` can so be compared.
    """
    for act in ActivityEvent:
        assert {"actor", "via"} <= EVENTS[act.value].keys.keys()
