"""An actor has one text, and each of our own callers says who it is."""

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
    *("create_key", "revoke_key", "create_hook", "rotate_hook_secret", "revoke_hook"),
    *("create_account", "renew_webhook_secret"),
    *("pause", "resume", "cancel"),
}
"""Functions of producers that do what is kept with its actor."""

ROOT = Path(__file__).parents[2]
FILES = sorted(file for room in ("producers", "cli", "web") for file in (ROOT / room).rglob("*.py"))


def calls(file: Path) -> list[tuple[str, ast.Call]]:
    """The calls of those functions, by name, in the file."""
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
def test_our_own_callers_say_who_it_is(file):
    """None leaves it to the default, which is for programs of others."""
    for name, call in calls(file):
        given = {keyword.arg for keyword in call.keywords}
        assert "actor" in given or None in given, f"{file.name}: {name}"


def test_those_calls_are_found():
    """At least one of each in what we have ourselves; over HTTP `control` is handed on by name."""
    found = {name for file in FILES for name, _ in calls(file)}
    assert found == ACTING


def test_an_actor_has_one_text():
    """Kind, and id where there is one."""
    assert [str(CLI), str(Actor(ActorKind.KEY, Via.HTTP, 7))] == ["cli", "key:7"]
    assert Actor(ActorKind.LINK, Via.ONE_CLICK).log_keys() == {"actor": "link", "via": "one_click"}


def test_an_act_is_called_as_its_event():
    """So that the log and `activity` can be laid side by side; each event says who it was."""
    for act in ActivityEvent:
        assert {"actor", "via"} <= EVENTS[act.value].keys.keys()
