"""`sluice new-action` rejects invalid requests without leaving any files."""

import shutil
from pathlib import Path

import pytest

from tests.kit.commands import run_sluice
from tests.kit.worker_group import ROOT

PAGE = "docs/transitions.md"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a minimal checkout for `sluice new-action`, and change into it."""
    for name in ("actions/bulk_action.py", "tests/kit/documents.py", PAGE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(checkout: Path, name: str) -> str:
    """Return the error's text; check that nothing was written."""
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    result = run_sluice("new-action", "--", name)
    assert result.exit_code == 2
    assert {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()} == before
    assert "Nothing was written." in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "name",
    ["", "MarkDormant", "mark dormant", "2nd", "_mark", "mark__dormant", "mark_", "-m", "../x"],
)
def test_a_name_is_one_word(checkout: Path, name: str):
    """A name may contain only lower-case letters, digits and single underscores or hyphens."""
    assert "cannot be the name of an action" in refused(checkout, name)


@pytest.mark.parametrize("name", ["class", "import", "m" * 31])
def test_a_name_can_be_imported_and_shown(checkout: Path, name: str):
    """A reserved word, or a name too long for tables, is rejected."""
    assert "cannot be the name of an action" in refused(checkout, name)


@pytest.mark.parametrize("name", ["opt_in", "opt-out", "bulk_action"])
def test_an_existing_name_is_rejected(checkout: Path, name: str):
    """An existing action, or a file with its name, is not overwritten."""
    assert "is taken" in refused(checkout, name)


def test_a_test_that_exists_is_not_overwritten(checkout: Path):
    """An existing test of that name may be about something else."""
    (checkout / "tests" / "unit").mkdir()
    (checkout / "tests" / "unit" / "test_columns.py").write_text("")
    assert "tests/unit/test_columns.py exists" in refused(checkout, "columns")


def test_the_folder_is_a_checkout(checkout: Path):
    """Outside a checkout, the command says which files it looked for."""
    (checkout / PAGE).unlink()
    assert f"is not a checkout of Sluice: it has no {PAGE}" in refused(checkout, "mark_dormant")


def test_the_page_has_a_place_for_the_section(checkout: Path):
    """If the page has no marker, nothing is written."""
    (checkout / PAGE).write_text("# Statuses and transitions\n")
    assert "has no line `<!-- new actions -->`" in refused(checkout, "mark_dormant")
