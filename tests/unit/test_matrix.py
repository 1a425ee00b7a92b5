"""`make matrix` runs on the installed versions and lists the missing ones."""

from pathlib import Path

from tests.kit.matrix import Result, Run, choose_runs, find_postgres, find_pythons, table

PASSED = Result(passed=True, summary="9 passed")
FAILED = Result(passed=False, summary="1 failed")


def program(folder: Path, name: str, script: str) -> Path:
    """Write an executable shell script."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_each_version_runs_once() -> None:
    """Each Python runs with the embedded Postgres, and each Postgres with the oldest Python."""
    assert choose_runs(["3.12", "3.9", "3.11"], [16, 15]) == [
        Run("3.9", None),
        Run("3.11", None),
        Run("3.12", None),
        Run("3.9", 15),
        Run("3.9", 16),
    ]
    assert choose_runs([], [15]) == []


def test_only_a_working_python_is_chosen(tmp_path: Path) -> None:
    """A shim of an inactive version, or one that runs another version, is skipped."""
    shims, versions = tmp_path / "shims", tmp_path / "versions"
    program(shims, "python3.12", "exit 127")
    program(shims, "python3.13", "echo 3.9")
    program(shims, "python3.10", "echo 3.10")
    right = program(versions, "python3.12", "echo 3.12")
    program(tmp_path / "later", "python3.12", "echo 3.12")
    folders = [tmp_path / "absent", shims, versions, tmp_path / "later"]
    assert find_pythons(folders) == {"3.12": right}


def test_only_a_supported_postgres_with_all_programs_is_chosen(tmp_path: Path) -> None:
    """The server must report a supported version, and `initdb` must exist."""
    versions = {"a": "14.1", "b": "16.3 (Debian 16.3-1)", "c": "16.4", "d": "17.0", "e": "18beta1"}
    for name, number in versions.items():
        program(tmp_path / name, "postgres", f"echo 'postgres (PostgreSQL) {number}'")
        if name != "d":
            program(tmp_path / name, "initdb", "")
    folders = [tmp_path / name for name in versions]
    assert find_postgres(folders) == {16: tmp_path / "b", 18: tmp_path / "e"}


def test_the_table_names_what_ran_and_what_is_missing() -> None:
    """Each supported version has a line, and failures are marked."""
    runs = {Run("3.11", None): PASSED, Run("3.12", None): FAILED, Run("3.11", 15): PASSED}
    pythons = {"3.11": Path("/usr/bin/python3.11"), "3.12": Path("/usr/bin/python3.12")}
    assert table(runs, pythons, {15: Path("/usr/lib/postgresql/15/bin")}, "18.6") == [
        "Python 3.11   passed  9 passed (with embedded Postgres 18.6; /usr/bin/python3.11)",
        "Python 3.12   FAILED  1 failed (with embedded Postgres 18.6; /usr/bin/python3.12)",
        "Python 3.13   not installed",
        "Python 3.14   not installed",
        "Postgres 15   passed  9 passed (with Python 3.11; /usr/lib/postgresql/15/bin)",
        "Postgres 16   not installed",
        "Postgres 17   not installed",
        "Postgres 18   not installed, run above as the embedded one",
    ]
