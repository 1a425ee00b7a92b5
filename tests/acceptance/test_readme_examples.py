"""The examples in the README work as written."""

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from runtime.settings import Settings
from tests.acceptance.conftest import StartGroup, StartWeb
from tests.acceptance.test_document_examples import PAGES
from tests.kit.code_copy import code_with
from tests.kit.document_examples import WEB_URL, Block, check, parse_blocks, run, select_examples
from tests.kit.worker_group import ROOT

README = (ROOT / "README.md").read_text()
ACTION = "actions/mark_unengaged.py"


BLOCKS = parse_blocks(ROOT / "README.md")


def is_action(block: Block) -> bool:
    """Return whether the block of Python defines a bulk action."""
    return "(BulkAction)" in block.text


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Copy the code, with the README's action in the file that the README names."""
    (action,) = filter(is_action, BLOCKS)
    return code_with(Path(ACTION).stem, action.text, tmp_path)


def test_blocks_are_of_known_languages() -> None:
    """Each block is run or marked as text, and the README names the action's file."""
    assert {block.language for block in BLOCKS} == {"sh", "python", "json", "text"}
    assert f"`{ACTION}`" in README


def test_each_answer_of_json_is_compared() -> None:
    """Each JSON block belongs to an example, on every page that is run. Otherwise it would not be
    compared with anything.
    """
    for page in (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in PAGES)):
        blocks = parse_blocks(page)
        compared = [example.shown for example in select_examples(blocks)]
        apart = [each.text for each in blocks if each.language == "json" and each not in compared]
        assert not apart, page


def test_the_make_targets_exist() -> None:
    """Each `make` command that the documents show is a target."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", README, re.MULTILINE)
    named = {first or second for first, second in shown}
    assert {"demo", "test"} <= named <= set(targets)


def test_the_readme_shows_the_chapters_of_the_demo() -> None:
    """The README shows the chapters of `sluice demo`."""
    (picture,) = (block.text for block in BLOCKS if block.text.startswith("1. "))
    shown = re.findall(r"^\d\. .+$", picture, re.MULTILINE)
    demo = (ROOT / "cli" / "demo.py").read_text()
    assert len(shown) == 5
    for chapter in shown:
        assert f'"{chapter}"' in demo


async def test_every_example_runs(
    pool: asyncpg.Pool,
    settings: Settings,
    start_group: StartGroup,
    start_web: StartWeb,
    code: Path,
    tmp_path: Path,
) -> None:
    """The shell and Python blocks, run in order, succeed and print what the README shows."""
    start_group(code=code)
    folder = tmp_path / "anywhere"
    folder.mkdir()
    examples = [each for each in select_examples(BLOCKS) if not is_action(each.block)]
    with start_web(settings, tmp_path / "web.log") as web:
        here = {WEB_URL: web.serving().url}
        outputs = await asyncio.to_thread(
            run, examples, folder, settings=settings, here=here, code=code
        )
    for example, output in zip(examples, outputs, strict=True):
        check(example, output)
    assert "carla.diaz@example.org" in "".join(outputs).lower()
    assert "it gets no broadcasts anyway" in " ".join("".join(outputs).split())
    jobs = await pool.fetch("select action, state, applied, propagated from jobs order by id")
    assert [job["action"] for job in jobs] == [
        *("import", "opt_out", "opt_in", "opt_out", "opt_out", "mark_unengaged")
    ]
    assert [job["state"] for job in jobs] == ["completed"] * len(jobs)
    assert [job["applied"] for job in jobs] == [5, 1, 3, 2, 1, 1]
    assert [job["propagated"] for job in jobs] == [0, 1, 0, 0, 0, 0]
