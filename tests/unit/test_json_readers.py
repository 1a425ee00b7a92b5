"""JSON from outside is read in one place, which refuses a name that stands twice in an object."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web")

_reads = re.compile(r"json\.loads?\b|\w+_validate_json\b|\w*JSONDecoder\b|\bfrom_json\b").search

OF_ITS_OWN = {
    "schemas/json_input.py": "the one place",
    "web/request_body.py": "after it has looked for repeated names",
    "schemas/examples.py": "the examples of the OpenAPI document, which are the project's own",
    "web/pagination.py": "a cursor, of which only numbers and words in a list are taken",
    "db/pool.py": "what Postgres sends",
    "db/exports.py": "what Postgres sends",
    "runtime/devservers/directory.py": "what another process of the same folder has written",
}
"""Files that call a parser of JSON themselves, and what they read by it."""


def test_every_reader_of_json_is_known():
    """A new one goes through `schemas.json_input`, or says here why it need not."""
    found = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if _reads(path.read_text())
    }
    assert found <= OF_ITS_OWN.keys()
