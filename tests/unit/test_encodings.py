"""Text is read and written with an explicit encoding, whatever the terminal's locale."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "setuptools"
]["packages"]
FILES = sorted(
    path for package in PACKAGES for path in ROOT.joinpath(*package.split(".")).glob("*.py")
)
READERS = {"read_text", "write_text", "from_path", "TextIOWrapper"}
OPENERS = {"open", "fdopen", "NamedTemporaryFile", "TemporaryFile"}
PROCESSES = {"run", "Popen", "check_output"}


def without_encoding(source: str) -> Iterator[int]:
    """Return the lines of calls that read or write text without an encoding."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and _is_text(call):
            named = {word.arg for word in call.keywords}
            if "encoding" not in named and None not in named:
                yield call.lineno


def _is_text(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    words = {word.arg: word.value for word in call.keywords}
    if name in OPENERS and ast.unparse(call.func) != "os.open":
        modes = [*call.args, *([words["mode"]] if "mode" in words else [])]
        parts = [part for mode in modes for part in ast.walk(mode)]
        texts = [part.value for part in parts if isinstance(part, ast.Constant)]
        return not any(isinstance(text, str) and "b" in text for text in texts)
    if name in PROCESSES:
        return "text" in words or "universal_newlines" in words
    return name in READERS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_file_says_how_its_text_is_encoded(path: Path) -> None:
    """Every call that reads or writes text names its encoding, including the library that reads
    SQL.
    """
    assert list(without_encoding(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path.read_text()", 1),
        ("path.read_text(encoding='utf-8')", 0),
        ("path.write_text('x', errors='replace')", 1),
        ("path.open()", 1),
        ("open(path, 'w')", 1),
        ("open(path, 'rb')", 0),
        ("path.open(mode='ab')", 0),
        ("path.open('wb' if new else 'ab')", 0),
        ("os.open(path, os.O_RDONLY)", 0),
        ("os.fdopen(descriptor, 'w')", 1),
        ("subprocess.run(command, text=True)", 1),
        ("subprocess.run(command)", 0),
        ("aiosql.from_path(path, adapter)", 1),
    ],
)
def test_a_call_without_encoding_is_found(source: str, found: int) -> None:
    """The check finds a call without an encoding."""
    assert len(list(without_encoding(source))) == found
