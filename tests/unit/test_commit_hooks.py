"""The hooks that `make hooks` installs reject commits that break the project's rules."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / ".pre-commit-config.yaml"
GOOD = "Say what changed and why"
LONG = "Say what changed and why, and say it in so many words that no list of commits has the room"

find_faults = runpy.run_path(str(ROOT / ".ci" / "check_subject.py"))["find_faults"]


@pytest.mark.parametrize(
    ("message", "faults"),
    [
        (GOOD, 0),
        ("A" * 72, 0),
        ("A" * 73, 1),
        ("say what changed", 1),
        ("Say what changed.", 1),
        ("say what changed, at length" + " and at length" * 4 + ".", 3),
        (f"\n# a comment of git's, which is long{'!' * 60}\n{GOOD}\n\na body, which is free.", 0),
        (f"fixup! {LONG}", 0),
        ("", 0),
    ],
)
def test_a_subject_is_short_and_written_as_a_title(message: str, faults: int) -> None:
    """A subject has at most 72 characters, starts with a capital letter and ends
    without a period.
    """
    assert len(find_faults(message)) == faults


def test_hooks_come_from_no_other_repository() -> None:
    """Installing the hooks downloads nothing: every hook runs a program of `.venv`."""
    text = CONFIG.read_text()
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert "://" not in text
    entries = re.findall(r"entry: (\S+)", text)
    assert len(entries) == text.count("- id: ")
    assert all(entry.startswith(".venv/bin/") for entry in entries)


def run(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command without this machine's git configuration; keep caches in the folder."""
    unwanted = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "PRE_COMMIT_HOME": str(folder / "hooks-cache"),
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, check=check
    )


def test_a_commit_with_a_long_subject_is_rejected(tmp_path: Path) -> None:
    """With the hooks installed, git accepts a short subject and rejects a long one."""
    shutil.copy(CONFIG, tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    run(tmp_path, "git", "init", "--quiet")
    run(tmp_path, "git", "add", CONFIG.name)
    run(tmp_path, ".venv/bin/pre-commit", "install")

    run(tmp_path, "git", "commit", "--message", GOOD)
    refused = run(tmp_path, "git", "commit", "--allow-empty", "--message", LONG, check=False)

    assert refused.returncode != 0
    assert f"It has {len(LONG)} characters. At most 72 are allowed." in refused.stderr
    assert run(tmp_path, "git", "log", "--format=%s").stdout.splitlines() == [GOOD]
