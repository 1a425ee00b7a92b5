"""Check that the logs of workers, web process and producers contain nothing forbidden."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from runtime.events import EVENTS
from tests.chaos.acknowledgements import Violation
from tests.chaos.dyno_supervisor import GroupExit
from tests.kit.log_lines import undeclared_keys

_LONGEST_BYTES = 8192
_SHOWN = 300
_OUTAGES = (b'"queue.unreachable"', b'"database.unreachable"')
_FAILURES = (b'"worker.failed"', b'"request.failed"')
PRODUCERS_LOG = "producers.log"
"""The log of the process of `make chaos`, which submits jobs by function calls."""

_RETRY_SECONDS = 1.0
"""Two outages that a process logs within this time count as one that was logged twice."""

NO_ADDRESS = "no log line contains an address"
NOT_LONG = "no log line is longer than 8 KB"
NOT_FAILED = "no process had an unexpected error"
DECLARED = "every log line of the web process and the producers is a declared event"
LOGGED_ONCE = "each process logs an outage only once"
NOT_GONE = "no process group ends because a server is down"


def read_logs(logs: Path) -> Iterator[Violation]:
    """Check every log line of all groups, the web process and the producers."""
    patterns = ("group-*.log", "web.*.log", PRODUCERS_LOG)
    for log in sorted(log for pattern in patterns for log in logs.glob(pattern)):
        is_groups = log.name.startswith("group-")
        yield from _find_repeated_outages(log)
        for number, line in enumerate(log.read_bytes().split(b"\n"), start=1):
            where = f"{log.name}:{number}"
            if b"@" in line:
                yield Violation(NO_ADDRESS, where)
            if len(line) > _LONGEST_BYTES:
                yield Violation(NOT_LONG, f"{where} has {len(line)} bytes")
            if any(sign in line for sign in _FAILURES) or line.startswith(b"Traceback"):
                yield Violation(NOT_FAILED, f"{where} {_shortened(line)}")
            if not is_groups and not _is_declared(line):
                yield Violation(DECLARED, f"{where} {_shortened(line)}")


def _is_declared(line: bytes) -> bool:
    # The last line of a killed process may be incomplete.
    if not line.endswith(b"}"):
        return not line or line.startswith(b"{")
    facts = json.loads(line)
    return facts["event"] in EVENTS and not undeclared_keys(facts["event"], facts)


def _find_repeated_outages(log: Path) -> Iterator[Violation]:
    last_logged: dict[tuple[str, str], datetime] = {}
    again: Counter[tuple[str, str]] = Counter()
    for line in log.read_bytes().split(b"\n"):
        # The last line of a killed process may be incomplete.
        if line.endswith(b"}") and any(event in line for event in _OUTAGES):
            facts = json.loads(line)
            key, at = (
                # The producers share one process, which has no name.
                (facts["event"], facts.get("worker") or facts.get("web") or log.stem),
                datetime.fromisoformat(facts["timestamp"]),
            )
            before = last_logged.get(key)
            if before is not None and (at - before).total_seconds() < _RETRY_SECONDS:
                again[key] += 1
            last_logged[key] = at
    for (event, worker), times in again.items():
        yield Violation(LOGGED_ONCE, f"{log.name}: {event} of {worker}", times)


def _shortened(line: bytes) -> str:
    try:
        facts = json.loads(line)
    except ValueError:
        return line.decode(errors="replace")[:_SHOWN]
    names = ("event", "error", "task", "route", "exception")
    kept = {name: facts[name] for name in names if name in facts}
    return json.dumps(kept)[:_SHOWN]


def read_ends(ended: list[GroupExit]) -> Iterator[Violation]:
    """Check how groups ended. A group without workers never started and logged the reason."""
    for end in ended:
        if end.worker_ids and not end.was_injected:
            yield Violation(NOT_GONE, f"{end.log.name} ended with status {end.status}")
