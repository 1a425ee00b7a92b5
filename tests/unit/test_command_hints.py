"""A suggested command works as printed."""

import sys
from pathlib import Path

import pytest

from runtime.program import expand_program_name, program_name


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Create a project with a virtual environment that is not on the PATH, and change into it."""
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


def test_the_command_is_the_path_of_the_script(project, monkeypatch):
    """The path is relative within the current folder, otherwise absolute and quoted for a shell."""
    assert program_name() == ".venv/bin/sluice"
    monkeypatch.chdir(project / ".venv" / "bin")
    assert program_name() == "./sluice"
    monkeypatch.chdir(project.parent)
    assert program_name() == "'a project/.venv/bin/sluice'"
    monkeypatch.chdir("/")
    assert program_name() == f"'{project}/.venv/bin/sluice'".replace("'/", "'", 1).lstrip("/")


def test_the_command_is_the_name_if_the_path_finds_this_script(project, monkeypatch):
    """The name alone is used if the PATH finds this script in its folder or by a link."""
    monkeypatch.setenv("PATH", str(project / ".venv" / "bin"))
    assert program_name() == "sluice"
    links = project / "links"
    links.mkdir()
    (links / "sluice").symlink_to(project / ".venv" / "bin" / "sluice")
    monkeypatch.setenv("PATH", str(links))
    assert program_name() == "sluice"


def test_another_installation_on_the_path_is_not_used(project, monkeypatch):
    """A script of another installation is not used: its version and servers may differ."""
    other = project / "other"
    other.mkdir()
    (other / "sluice").write_text("#!/bin/sh\n")
    (other / "sluice").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))
    assert program_name() == ".venv/bin/sluice"


def test_without_an_installed_script_python_runs_the_module(project, monkeypatch):
    """Without an installed script, `python -m` is used, as on a dyno with python on the PATH."""
    scripts = project / ".venv" / "bin"
    (scripts / "sluice").unlink()
    assert program_name() == ".venv/bin/python -m cli"
    monkeypatch.setenv("PATH", str(scripts))
    assert program_name() == "python -m cli"


def test_commands_in_a_text_get_the_prefix(project):
    """Only commands in backticks get the prefix."""
    assert project
    text = "Job 1 of sluice: `sluice job 1`, `sluice`, `sluices`, `PATH`."
    shown = "Job 1 of sluice: `.venv/bin/sluice job 1`, `.venv/bin/sluice`, `sluices`, `PATH`."
    assert expand_program_name(text) == shown
    assert expand_program_name(shown) == shown


def test_the_command_of_this_environment_can_be_run():
    """The command that would be printed in this environment can be run."""
    words = program_name().split()
    assert Path(words[0]).exists() or words[0] in {"sluice", "python", "python3"}
