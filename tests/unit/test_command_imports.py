"""A command starts without the libraries that few commands need."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_queue_and_migration_libraries_are_imported_when_used() -> None:
    """Importing the command line imports neither the queue's libraries nor those of migrations."""
    imported = subprocess.run(
        [sys.executable, "-c", "import sys, cli; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.split()
    assert "cli" in imported
    assert not {"alembic", "dramatiq", "redis", "sqlalchemy"}.intersection(imported)
