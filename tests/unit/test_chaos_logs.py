"""The log checks of chaos runs find what logs must not contain."""

import json
from pathlib import Path

import pytest

from tests.chaos.checks import late_recoveries
from tests.chaos.dyno_supervisor import GroupExit
from tests.chaos.fault_plan import Kind
from tests.chaos.log_checks import (
    DECLARED,
    LOGGED_ONCE,
    NO_ADDRESS,
    NOT_FAILED,
    NOT_GONE,
    NOT_LONG,
    PRODUCERS_LOG,
    read_ends,
    read_logs,
)
from tests.chaos.recovery import GOAL_SECONDS, Recovery

FINE = '{"level": "info", "event": "worker.started", "worker": "worker.1.17"}\n'


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ('{"event": "chunk.failed", "error": "for ada@example.com"}\n', NO_ADDRESS),
        (f'{{"event": "job.planned", "job": "{"9" * 9000}"}}\n', NOT_LONG),
        ('{"event": "worker.failed", "error": "KeyError"}\n', NOT_FAILED),
        ("Traceback (most recent call last):\n", NOT_FAILED),
    ],
)
def test_a_bad_line_is_found(tmp_path: Path, line: str, check: str):
    """An address, a line that is too long and an unexpected error are each reported with file and
    line.
    """
    (tmp_path / "group-1.001.log").write_text(FINE + line + FINE)
    found = list(read_logs(tmp_path))
    assert [violation.check for violation in found] == [check]
    assert found[0].what.startswith("group-1.001.log:2")


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ('{"event": "request.failed", "error": "KeyError"}\n', NOT_FAILED),
        ('{"event": "request.seen"}\n', DECLARED),
        ('{"event": "request.answered", "path": "/v1/jobs/7"}\n', DECLARED),
        ("INFO: Application startup complete.\n", DECLARED),
    ],
)
def test_a_bad_line_of_the_web_process_is_found(tmp_path: Path, line: str, check: str):
    """An HTTP error, an undeclared event or key, and a line without an event are found. The same
    holds for the log of the producers, which share one process.
    """
    fine = '{"event": "request.answered", "http_status": 200}\n'
    for log in ("web.001.log", PRODUCERS_LOG):
        (tmp_path / log).write_text(fine + line + fine + '{"event": "request.ans')
    found = [(each.check, each.what.partition(" ")[0]) for each in read_logs(tmp_path)]
    assert found == [(check, "producers.log:2"), (check, "web.001.log:2")]


def test_good_lines_violate_nothing(tmp_path: Path):
    """The usual lines of a worker are no violation."""
    (tmp_path / "group-1.001.log").write_text(FINE * 3)
    assert list(read_logs(tmp_path)) == []


def test_an_outage_logged_twice_is_found(tmp_path: Path):
    """A process that logs an outage twice within a second violates the check; two
    processes do not.
    """
    lines = [
        json.dumps({"event": event, "worker": worker, "timestamp": f"2026-01-01T00:00:{second}Z"})
        for event, worker, second in (
            ("queue.unreachable", "worker.1.17", "01.0"),
            ("queue.unreachable", "worker.1.18", "01.1"),
            ("database.unreachable", "worker.1.17", "01.2"),
            ("queue.unreachable", "worker.1.17", "01.3"),
            ("queue.unreachable", "worker.1.17", "09.0"),
        )
    ]
    (tmp_path / "group-1.001.log").write_text("\n".join(lines))
    [found] = read_logs(tmp_path)
    assert (found.check, found.times) == (LOGGED_ONCE, 1)


def test_an_outage_logged_twice_by_producers_is_found(tmp_path: Path):
    """Producers share one process, whose lines have no process name."""
    (tmp_path / PRODUCERS_LOG).write_text(
        "".join(
            f'{{"event": "queue.unreachable", "timestamp": "2026-01-01T00:00:{second}Z"}}\n'
            for second in ("01.0", "01.3", "09.0")
        )
    )
    [found] = read_logs(tmp_path)
    assert (found.check, found.times) == (LOGGED_ONCE, 1)


def test_a_group_that_ends_by_itself_is_found():
    """A group that worked and then ended undisturbed is a violation. A group that was ended, or
    never started, is not.
    """
    log = Path("group-1.001.log")
    ended = [
        GroupExit(log, 1, was_injected=False, worker_ids=(17,)),
        GroupExit(log, -9, was_injected=True, worker_ids=(18,)),
        GroupExit(log, 1, was_injected=False, worker_ids=()),
    ]
    assert [violation.check for violation in read_ends(ended)] == [NOT_GONE]


def test_a_late_recovery_is_found():
    """Only recoveries that took longer than the goal, or never came, are violations."""
    recoveries = [
        Recovery(Kind.REDIS_WIPED, GOAL_SECONDS - 1, GOAL_SECONDS + 9, 0.3, 0.1, []),
        Recovery(Kind.REDIS_KILLED, GOAL_SECONDS + 1, GOAL_SECONDS + 1, 0.3, 0.1, ["job 7"]),
        Recovery(Kind.REDIS_STALLED, None, 120.0, None, 0.1, ["job 8"]),
        Recovery(Kind.WEB_KILLED, 0.1, 0.1, 0.3, GOAL_SECONDS + 1, []),
        Recovery(Kind.WEB_STOPPED, 0.1, 0.1, 0.3, None, []),
    ]
    assert [violation.what.partition(":")[0] for violation in late_recoveries(recoveries)] == [
        Kind.REDIS_KILLED,
        Kind.REDIS_STALLED,
        Kind.WEB_KILLED,
        Kind.WEB_STOPPED,
    ]
