"""A command that is suggested works as printed."""

import sys
from pathlib import Path

import pytest

from runtime.program import expand_program_name, program_name


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a virtual environment, in which one stands and which is not on the PATH."""
    folder = tmp_path / "a project"
    scripts = folder / ".venv" / "bin"
    scripts.mkdir(parents=True)
    for name in ("python", "sluice"):
        (scripts / name).write_text("#!/bin/sh\n")
        (scripts / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(folder)
    return folder


def test_it_is_the_path_of_the_script_from_where_one_stands(project, monkeypatch):
    """Relative below the present folder, else whole and quoted for a shell."""
    assert program_name() == ".venv/bin/sluice"
    monkeypatch.chdir(project / ".venv" / "bin")
    assert program_name() == "./sluice"
    monkeypatch.chdir(project.parent)
    assert program_name() == "'a project/.venv/bin/sluice'"
    monkeypatch.chdir("/")
    assert program_name() == f"'{project}/.venv/bin/sluice'".replace("'/", "'", 1).lstrip("/")


def test_it_is_the_name_where_the_path_leads_to_this_script(project, monkeypatch):
    """By the folder of the script or by a link to it."""
    monkeypatch.setenv("PATH", str(project / ".venv" / "bin"))
    assert program_name() == "sluice"
    links = project / "links"
    links.mkdir()
    (links / "sluice").symlink_to(project / ".venv" / "bin" / "sluice")
    monkeypatch.setenv("PATH", str(links))
    assert program_name() == "sluice"


def test_another_installation_on_the_path_is_not_this_one(project, monkeypatch):
    """It may be of another version, and use other servers."""
    other = project / "other"
    other.mkdir()
    (other / "sluice").write_text("#!/bin/sh\n")
    (other / "sluice").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert program_name() == ".venv/bin/sluice"


def test_where_it_is_not_installed_python_runs_it(project, monkeypatch):
    """As on a dyno, whose python is on the PATH."""
    scripts = project / ".venv" / "bin"
    (scripts / "sluice").unlink()
    assert program_name() == ".venv/bin/python -m cli"
    monkeypatch.setenv("PATH", str(scripts))
    assert program_name() == "python -m cli"


def test_commands_in_a_text_begin_as_they_are_called(project):
    """Commands in backticks do, and nothing else."""
    assert project
    text = "Job 1 of sluice: `sluice job 1`, `sluice`, `sluices`, `PATH`."
    shown = "Job 1 of sluice: `.venv/bin/sluice job 1`, `.venv/bin/sluice`, `sluices`, `PATH`."
    assert expand_program_name(text) == shown
    assert expand_program_name(shown) == shown


def test_the_program_that_runs_these_tests_is_found():
    """What is printed here can be run."""
    words = program_name().split()
    assert Path(words[0]).exists() or words[0] in {"sluice", "python", "python3"}
