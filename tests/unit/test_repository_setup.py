"""What a new contributor's first commands need is complete and consistent."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ("requirements.lock", "requirements-dev.lock")


def names(requirements: list[str]) -> set[str]:
    """Return the names of the packages without versions, in lower case."""
    return {re.split(r"[^A-Za-z0-9_.-]", name)[0].lower() for name in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_has_hashes_and_no_address(lock: str) -> None:
    """Every version is exact and has hashes, but no index URL: each machine chooses
    its own index.
    """
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=sha256:)", text, re.MULTILINE)
    packages = re.findall(r"^[a-z].*$(?:\n .*)+", text, re.MULTILINE)
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9-]+==\S+ \\\n\s+--hash=sha256:[0-9a-f]{64}", package)


def test_the_lock_files_have_what_the_project_needs() -> None:
    """Every requirement in `pyproject.toml` is in the lock files that `make lock` writes."""
    locked = [
        names(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in LOCKS
    ]
    runtime = names(PROJECT["dependencies"])
    assert runtime <= locked[0]
    assert runtime | names(PROJECT["optional-dependencies"]["dev"]) <= locked[1]


def test_make_explains_every_target() -> None:
    """`make` without a target lists each target with an explanation."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE)) == targets


def test_packages_are_all_listed() -> None:
    """Setuptools installs only the packages that `pyproject.toml` lists one by one."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web")
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for room in rooms
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(listed) == found
