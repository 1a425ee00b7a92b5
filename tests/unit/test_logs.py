"""A log line is declared, contains no address or secret, and is short enough to stay whole."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from runtime import events, logs
from runtime.event_keys import Event
from runtime.log_lines import MAX_LINE_BYTES, redact, render_json, render_line, render_logfmt
from runtime.settings import Settings
from tests.kit.log_lines import UndeclaredLogLineError

Lines = Callable[[], list[dict[str, Any]]]

log = logs.get_logger()


def configured(**values: Any) -> Settings:
    """Return settings that log JSON, with changes."""
    return Settings(**({"log_format": "json"} | values))


@pytest.fixture
def descriptor(tmp_path: Any) -> Iterator[int]:
    """Yield a descriptor that replaces standard output; restore all logging settings afterwards."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    descriptor = os.open(tmp_path / "lines", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers = before[1]


def written(descriptor: int) -> str:
    """Return everything written to the descriptor so far."""
    return os.pread(descriptor, 1_000_000, 0).decode()


def lines(descriptor: int) -> list[dict[str, Any]]:
    """Return the JSON lines written to the descriptor so far."""
    return [json.loads(line) for line in written(descriptor).splitlines()]


CHUNK = {
    "job": 7,
    "account": 1,
    "action": "opt_in",
    "chunk": 0,
    "applied": 10,
    "unchanged": 2,
    "rejected": 3,
    "reasons": {"bounced": 3},
    "empty": 0,
    "propagated": 0,
    "duration_ms": 61,
    "attempt": 1,
    "worker": "web.1",
}


def test_a_line_carries_facts_time_level_and_correlation(descriptor: int) -> None:
    """Each line has its time, level and keys, and the correlation id of its context."""
    logs.configure(configured(), descriptor=descriptor)
    with logs.bind_context(correlation_id="c-1"):
        log.info(events.CHUNK_PROCESSED, **CHUNK)
    [line] = lines(descriptor)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line.pop("timestamp").endswith("Z")
    assert line == CHUNK | {"level": "info", "event": "chunk.processed", "correlation_id": "c-1"}


def test_undeclared_keys_and_events_are_rejected() -> None:
    """In tests, an unknown key and an undeclared event raise an error."""
    with pytest.raises(UndeclaredLogLineError, match="does not declare colour"):
        log.info(events.JOB_STARTED, job=1, colour="red")
    stray = Event("job.imagined", "It is not in the list.", {})
    with pytest.raises(UndeclaredLogLineError, match="not in runtime"):
        log.info(stray)


def test_undeclared_keys_and_events_are_logged_in_production(
    descriptor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In production, an undeclared key or event does not stop the work."""
    monkeypatch.setattr(logs.Log, "check", None)
    logs.configure(configured(), descriptor=descriptor)
    log.info(events.JOB_STARTED, job=1, colour="red")
    assert lines(descriptor)[0]["colour"] == "red"


def test_the_level_is_a_threshold(descriptor: int) -> None:
    """LOG_LEVEL=warning drops lines of level info."""
    logs.configure(configured(log_level="warning"), descriptor=descriptor)
    log.info(events.JOB_STARTED, job=1)
    log.warning(events.QUEUE_UNREACHABLE, error="TimeoutError")
    assert [line["event"] for line in lines(descriptor)] == ["queue.unreachable"]


def test_libraries_log_to_the_same_place(descriptor: int) -> None:
    """Warnings of libraries become lines like ours; their information is dropped."""
    logs.configure(configured(), descriptor=descriptor)
    logging.getLogger("dramatiq.worker").info("working")
    logging.getLogger("dramatiq.worker").warning("lost jane@example.org at %d", 7)
    [line] = lines(descriptor)
    assert line["event"] == "library.logged"
    assert (line["logger"], line["level"]) == ("dramatiq.worker", "warning")
    assert line["message"] == "lost [redacted] at 7"


def test_an_exception_is_logged_without_its_text(descriptor: int) -> None:
    """The text of an exception may quote data, so the line has only its type and place."""
    logs.configure(configured(), descriptor=descriptor)
    try:
        try:
            int("Jane Doe")
        except ValueError as cause:
            raise LookupError("of Jane Doe") from cause
    except LookupError as error:
        log.error(events.WORKER_FAILED, worker="w", error="LookupError", exc_info=error)
    [line] = lines(descriptor)
    assert line["exception"].startswith("LookupError, at unit/test_logs.py:")
    assert "; from ValueError, at unit/test_logs.py:" in line["exception"]
    assert "Jane" not in written(descriptor)


def test_a_closed_output_raises_nothing() -> None:
    """A closed standard output, or a pipe without a reader, raises nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        logs.configure(configured(), descriptor=writer)
        log.info(events.JOB_STARTED, job=1)
    finally:
        os.close(writer)
        structlog.reset_defaults()


@pytest.mark.parametrize("log_format", ["logfmt", "console"])
def test_other_formats_have_the_same_facts(descriptor: int, log_format: str) -> None:
    """Each line of logfmt and console output names the event and its keys."""
    logs.configure(configured(log_format=log_format), descriptor=descriptor)
    log.info(events.CHUNK_PROCESSED, **CHUNK)
    [line] = written(descriptor).splitlines()
    assert "chunk.processed" in line
    assert "duration_ms=61" in line
    assert ("reasons.bounced=3" if log_format == "logfmt" else "bounced") in line


def test_json_is_the_default_without_a_terminal(descriptor: int) -> None:
    """Without LOG_FORMAT, output to a file or a pipe is JSON."""
    logs.configure(configured(log_format=None), descriptor=descriptor)
    log.info(events.JOB_STARTED, job=1)
    assert lines(descriptor)[0]["job"] == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6000),
    lambda inner: (
        st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=30), inner, max_size=20)
    ),
    max_leaves=30,
)


@given(facts=st.dictionaries(st.text(min_size=1, max_size=20), anything, max_size=20))
def test_any_facts_make_one_short_line(facts: dict[str, Any]) -> None:
    """Any keys give one line of valid JSON, or of logfmt, of at most 4,000 bytes."""
    line = render_line({"event": "x"}, facts, render_json)
    assert len(line) <= MAX_LINE_BYTES
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=pytest.fail)
    line = render_line({"event": "x"}, facts, render_logfmt)
    assert len(line) <= MAX_LINE_BYTES
    assert line.count(b"\n") == 1


def test_a_shortened_line_is_marked() -> None:
    """A long value is cut, other values stay, and `truncated` is set."""
    line = json.loads(render_line({"event": "x"}, {"job": 7, "message": "a" * 9000}, render_json))
    assert line["job"] == 7
    assert line["truncated"] is True
    assert line["message"].startswith("aaaa")
    full = json.loads(render_line({"event": "x"}, {"job": 7, "message": "a" * 900}, render_json))
    assert "truncated" not in full


@given(before=st.text(max_size=50), address=st.emails(), after=st.text(max_size=50))
def test_no_address_is_logged(before: str, address: str, after: str) -> None:
    """Neither half of an address is in the line, however deep it was nested."""
    text = f"{before} <{address}>, {after}"
    for facts in ({"a": text}, {"a": {text: [text]}}, {"a": ("x" * 1990 + " " + text)}):
        line = render_line({}, facts, render_json).decode()
        assert address not in line
        assert address.rpartition("@")[2] not in line or len(address.rpartition("@")[2]) < 8


@pytest.mark.parametrize(
    "text",
    [
        "postgres://user:hunter2@db.example.org/x",
        "redis://:hunter2@localhost:6379",
        "connecting with password=hunter2",
        "{'api_key': 'hunter2'}",
        'of "hunter2 the first"@example.org',
        "GET /unsubscribe?of=hunter2%40example.org",
        "hunter2\uff20example.org",
    ],
)
def test_no_secret_is_logged(text: str) -> None:
    """URLs with credentials, words that name a secret, and unusual addresses are redacted."""
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize("text", ["job 7 of account 1", "at 07:06:39.221", "opt_in", ""])
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Text without addresses and secrets is not redacted."""
    assert redact(text) == text
