"""`docs/log-events.md` agrees with `runtime/events.py`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import events
from runtime.event_keys import (
    COMMON_KEYS,
    KEY_TYPES,
    KEYS,
    Event,
)
from runtime.events import EVENTS
from tests.kit.log_lines import mistyped_keys, undeclared_keys

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "log-events.md"
ROOMS = ("engine", "workers", "producers", "cli", "web", "runtime")


def table(keys: dict[str, str]) -> str:
    """Return the event's keys as a Markdown table."""
    rows = "".join(f"| `{key}` | {meaning} |\n" for key, meaning in keys.items())
    return f"| key | meaning |\n|---|---|\n{rows}"


def section(event: Event) -> str:
    """Return the document's section about the event."""
    keys = f"\n{table(dict(event.keys))}" if event.keys else ""
    return f"### `{event.name}`\n\n{event.meaning}\n{keys}"


def document() -> str:
    """Return the generated page. `python -m tests.unit.test_log_events` writes it."""
    return (
        "# Log events\n\n"
        "One line per event on standard output: JSON, logfmt or for people (`LOG_FORMAT`), at\n"
        "most 4,000 bytes, with no address, name or secret. A key may be absent where a line has\n"
        "nothing to say on it. This page is written from `runtime/events.py` by\n"
        "`python -m tests.unit.test_log_events`, and a test compares the two.\n\n"
        f"## On every line\n\n{table(COMMON_KEYS)}\n"
        "## Events\n\n" + "\n".join(section(event) for event in EVENTS.values())
    )


def log_calls(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield the line, the event and the named keys of each call `log.level(events.NAME, ...)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                args=[ast.Attribute(value=ast.Name(id="events"), attr=constant)], keywords=keywords
            ):
                event = getattr(events, constant).name
                yield node.lineno, event, [each.arg for each in keywords if each.arg]


@pytest.mark.parametrize("room", ROOMS)
def test_each_call_names_declared_keys(room: str) -> None:
    """Calls for rare lines that no other test reaches are included."""
    found = [
        f"{path}:{line}: {event} has no {', '.join(sorted(undeclared))}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, event, keys in log_calls(path)
        if (undeclared := undeclared_keys(event, set(keys) - {"exc_info"}))
    ]
    assert not found


def test_the_document_matches_the_code() -> None:
    """The page lists every event and key in the words of the code."""
    assert DOCUMENT.read_text() == document()


def test_names_are_dotted_and_keys_are_words() -> None:
    """Such names can be searched for and used as columns."""
    for event in EVENTS.values():
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", event.name)
        assert event.meaning.endswith(".")
        for key in event.keys:
            assert re.fullmatch(r"[a-z][a-z_]*", key)
            assert key not in COMMON_KEYS


def test_each_key_has_one_type() -> None:
    """Every key of every event has a type, and every typed key is used. A line with another type
    fails the test that logged it (`runtime.logs.Log.check`).
    """
    assert {key for event in EVENTS.values() for key in event.keys} == set(KEYS)
    assert {*KEYS, *COMMON_KEYS} == set(KEY_TYPES)
    for key, value in (("rejected", {"bounced": 3}), ("aborted", 1), ("job", True)):
        assert mistyped_keys({key: value}) == {key}
    assert mistyped_keys({"rejected": 3, "aborted": True, "seconds": 1, "job": None}) == set()


if __name__ == "__main__":
    DOCUMENT.write_text(document())
