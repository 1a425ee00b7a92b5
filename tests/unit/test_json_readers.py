"""JSON from outside is read in one place, which rejects duplicate names."""

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
"""Files that call a JSON parser themselves, and what they read with it."""


def test_every_reader_of_json_is_known():
    """A new reader uses `schemas.json_input`, or is listed here with its reason."""
    found = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if _reads(path.read_text())
    }
    assert found <= OF_ITS_OWN.keys()
