"""Pages whose examples are run unchanged, from top to bottom in one shell.

Blocks of `sh` and `python` are run. A block of `json` or `text` directly after one shows its
output: some members of the JSON, or some lines of the text. `...` stands for a part that varies.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from runtime.settings import Settings
from tests.kit.worker_group import ROOT

PAGE_SECONDS = 540
WEB_URL = "http://127.0.0.1:8000"
"""The URL of the web process on the pages."""

_RUN = ("sh", "python")
_SHOWN = ("json", "text")
_ANY = "..."
_BETWEEN = "\x1e"
_END_OF_PYTHON = "END_OF_THE_PAGE_S_PYTHON"
_block = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block with its language and text; `apart` if text separates it from the block
    before.
    """

    language: str
    text: str
    apart: bool


class Example(NamedTuple):
    """A block to run, and the block with its expected output or None."""

    block: Block
    shown: Block | None


def parse_blocks(page: Path) -> list[Block]:
    """Return all blocks of the page, in order."""
    text, blocks, end = page.read_text(encoding="utf-8"), [], 0
    for found in _block.finditer(text):
        apart = bool(text[end : found.start()].strip())
        blocks.append(Block(found[1], found[2], apart))
        end = found.end()
    return blocks


def select_examples(blocks: list[Block]) -> Iterator[Example]:
    """Yield the blocks to run, each with its expected output."""
    end = Block("", "", apart=True)
    for block, following in pairwise([*blocks, end]):
        if block.language in _RUN:
            is_its = following.language in _SHOWN and not following.apart
            yield Example(block, following if is_its else None)


def run(
    examples: list[Example],
    folder: Path,
    *,
    settings: Settings,
    here: Mapping[str, str],
    code: Path = ROOT,
) -> list[str]:
    """Run all examples in one shell and return the output of each; fail if one does not succeed.

    `here` replaces values on the page by those of this run, such as the port of the web process.
    """
    script = f"\nprintf '{_BETWEEN}'\n".join(_in_shell(each.block) for each in examples)
    for on_the_page, meant in here.items():
        script = script.replace(on_the_page, meant)
    completed = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=_environment(settings, code),
        capture_output=True,
        text=True,
        timeout=PAGE_SECONDS,
        check=False,
    )
    written = completed.stdout.split(_BETWEEN)
    failed = examples[len(written) - 1].block.text
    assert completed.returncode == 0, f"{failed}\n{written[-1]}\n{completed.stderr}"
    return written


def _in_shell(block: Block) -> str:
    if block.language == "sh":
        return block.text
    return f"python - <<'{_END_OF_PYTHON}'\n{block.text}\n{_END_OF_PYTHON}"


def _environment(settings: Settings, code: Path) -> dict[str, str]:
    assert settings.signing_keys is not None
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(code),
        "DATABASE_URL": settings.database_url or "",
        "REDIS_URL": settings.redis_url or "",
        "QUEUE_NAMESPACE": settings.queue_namespace,
        "PGBOUNCER": str(settings.pgbouncer),
        "SIGNING_KEYS": settings.signing_keys.get_secret_value(),
    }


def check(example: Example, output: str) -> None:
    """Check that the output agrees with the page."""
    if example.shown is None:
        return
    message = f"{example.block.text}\nanswers:\n{output}"
    if example.shown.language == "json":
        where = find_difference(json.loads(example.shown.text), json.loads(output))
        assert where is None, f"{where} is not as the page shows it.\n{message}"
        return
    lines = iter(output.splitlines())
    for line in example.shown.text.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split(_ANY))
        assert any(re.fullmatch(pattern, given.rstrip()) for given in lines), f"{line}\n{message}"


def find_difference(shown: Any, actual: Any, where: str = "it") -> str | None:
    """Return the path of the first difference between the page's JSON and the output, or None.

    An object may have additional members; a list may have more items after a last `...`.
    """
    if actual is _Absent:
        return where
    if shown == _ANY:
        return None
    if isinstance(shown, dict) and isinstance(actual, dict):
        parts = ((name, shown[name], actual.get(name, _Absent)) for name in shown)
        found = (find_difference(one, other, f"{where}.{name}") for name, one, other in parts)
        return next(filter(None, found), None)
    if isinstance(shown, list) and isinstance(actual, list):
        if shown and shown[-1] == _ANY:
            shown, actual = shown[:-1], actual[: len(shown) - 1]
        if len(shown) != len(actual):
            return f"the length of {where}"
        pairs = enumerate(zip(shown, actual, strict=True))
        found = (find_difference(*pair, f"{where}[{n}]") for n, pair in pairs)
        return next(filter(None, found), None)
    return None if shown == actual and type(shown) is type(actual) else where


class _Absent:
    """Stands for a missing member, which not even `...` matches."""
