"""The commands of `docs/monitoring.md`, run unchanged on a log."""

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
    """Return each question's command by its number."""
    return {int(number): line for number, line in _QUESTION.findall(MONITORING.read_text())}


def require_jq() -> None:
    """Skip the test if jq is not installed; in CI, fail it."""
    if shutil.which("jq") is None:
        assert not os.environ.get("CI"), "jq (Debian package jq) is not installed"
        pytest.skip("no jq is installed (Debian package jq)")


def ask(number: int, folder: Path, correlation_id: str = "") -> list[dict[str, Any]]:
    """Return the objects that a question's command outputs for the folder's `sluice.log`."""
    done = subprocess.run(
        ["/bin/sh", "-c", questions()[number].replace("--arg id ID", f"--arg id {correlation_id}")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]
