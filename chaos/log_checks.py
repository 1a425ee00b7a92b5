"""What must not stand in the workers' logs."""

import json
from collections.abc import Iterator
from pathlib import Path

from chaos.fleet import Ended
from chaos.records import Violation

_LONGEST_BYTES = 8192
_SHOWN = 300

NO_ADDRESS = "no log line has an address"
NOT_LONG = "no log line is longer than 8 KB"
NOT_FAILED = "no worker met an error that it did not expect"
NOT_GONE = "no worker group ends because a server was away"


def read_logs(logs: Path) -> Iterator[Violation]:
    """Go through every line of every group."""
    for log in sorted(logs.glob("group-*.log")):
        for number, line in enumerate(log.read_bytes().split(b"\n"), start=1):
            where = f"{log.name}:{number}"
            if b"@" in line:
                yield Violation(NO_ADDRESS, where)
            if len(line) > _LONGEST_BYTES:
                yield Violation(NOT_LONG, f"{where} has {len(line)} bytes")
            if b'"worker.failed"' in line or line.startswith(b"Traceback"):
                yield Violation(NOT_FAILED, f"{where} {_shortened(line)}")


def _shortened(line: bytes) -> str:
    try:
        facts = json.loads(line)
    except ValueError:
        return line.decode(errors="replace")[:_SHOWN]
    kept = {key: facts.get(key) for key in ("error", "task", "exception") if key in facts}
    return json.dumps(kept)[:_SHOWN]


def read_ends(ended: list[Ended]) -> Iterator[Violation]:
    """Go through the ends of groups. One that never started was refused, with a sentence."""
    for end in ended:
        if end.worker_ids and not end.by_storm:
            yield Violation(NOT_GONE, f"{end.log.name} ended with status {end.status}")
