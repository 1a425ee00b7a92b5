"""What the README shows works as it is written there."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup
from tests.acceptance.fleet import ROOT, code_with

README = (ROOT / "README.md").read_text()
ACTION = "actions/mark_unengaged.py"


class Block(NamedTuple):
    """A fenced block: its language, and what stands in it."""

    language: str
    text: str


BLOCKS = [
    Block(*found)
    for found in re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
]


def is_action(block: Block) -> bool:
    return "(BulkAction)" in block.text


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A copy of the code, with the README's action in the file that it names."""
    (action,) = filter(is_action, BLOCKS)
    return code_with(Path(ACTION).stem, action.text, tmp_path)


def test_blocks_are_of_known_languages() -> None:
    """Each block is run, or is marked as text; the action's file is the one that is named."""
    assert {block.language for block in BLOCKS} == {"sh", "python", "text"}
    assert f"`{ACTION}`" in README


def test_the_make_targets_exist() -> None:
    """Each `make` command that the documents show is a target."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.MULTILINE)
    named = {first or second for first, second in shown}
    assert {"demo", "test"} <= named <= set(targets)


def test_the_picture_of_the_demo_is_of_this_demo() -> None:
    """The chapters that the README shows are those of `sluice demo`."""
    (picture,) = (block.text for block in BLOCKS if block.text.startswith("1. "))
    shown = re.findall(r"^\d\. .+$", picture, re.MULTILINE)
    demo = (ROOT / "producers" / "cli" / "demo.py").read_text()
    assert len(shown) == 5
    for chapter in shown:
        assert f'"{chapter}"' in demo


async def test_every_example_runs(
    pool: asyncpg.Pool, settings: Settings, start_group: StartGroup, code: Path, tmp_path: Path
) -> None:
    """Run one after the other, the shell's and Python's blocks succeed and do what they say."""
    start_group(code=code)
    folder = tmp_path / "anywhere"
    folder.mkdir()
    output = ""
    for block in BLOCKS:
        if block.language != "text" and not is_action(block):
            output += await asyncio.to_thread(run, block, folder, code, settings)
    assert "carla.diaz@example.org" in output.lower()
    jobs = await pool.fetch("select action, state, applied, propagated from jobs order by id")
    assert [job["action"] for job in jobs] == [
        *("import", "opt_out", "opt_in", "opt_out", "mark_unengaged")
    ]
    assert dict(jobs[1]) == {
        "action": "opt_out",
        "state": "completed",
        "applied": 1,
        "propagated": 1,
    }
    assert jobs[2]["applied"] == 3
    assert (jobs[4]["state"], jobs[4]["applied"]) == ("completed", 1)


def run(block: Block, folder: Path, code: Path, settings: Settings) -> str:
    """What the block writes."""
    programs = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable]}
    done = subprocess.run(
        programs[block.language],
        input=block.text,
        cwd=folder,
        env={
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(code),
            "DATABASE_URL": settings.database_url or "",
            "REDIS_URL": settings.redis_url or "",
            "QUEUE_NAMESPACE": settings.queue_namespace,
            "PGBOUNCER": str(settings.pgbouncer),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    return done.stdout
