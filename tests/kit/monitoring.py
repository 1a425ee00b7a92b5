"""The lines of `docs/monitoring.md`, run as they are written over a log."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring.md"

_QUESTION = re.compile(r"^## (\d+)\. .+?\n```sh\n([^\n]+)\n```$", re.DOTALL | re.MULTILINE)


def questions() -> dict[int, str]:
    """Give each question's line by its number."""
    return {int(number): line for number, line in _QUESTION.findall(MONITORING.read_text())}


def require_jq() -> None:
    """Skip the test where jq is not installed; in CI it fails."""
    if shutil.which("jq") is None:
        assert not os.environ.get("CI"), "jq (Debian package jq) is not installed"
        pytest.skip("no jq is installed (Debian package jq)")


def ask(number: int, folder: Path, correlation_id: str = "") -> list[dict[str, Any]]:
    """Give the answer to a question over the folder's `sluice.log`, one object for each line."""
    done = subprocess.run(
        ["/bin/sh", "-c", questions()[number].replace("--arg id ID", f"--arg id {correlation_id}")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]
