"""CI fails for a package with a known advisory, but not if the advisory service is unreachable."""

import runpy
from pathlib import Path

import pytest

tell = runpy.run_path(str(Path(__file__).parents[2] / ".ci" / "audit.py"))["tell"]

WELL = {"name": "well", "version": "1", "vulns": []}
WEAK = {"name": "weak", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "it is not there"}


@pytest.mark.parametrize(
    ("packages", "status", "message"),
    [
        ([WELL, WELL], 0, "No advisory is known for the 2 packages"),
        ([WELL, UNKNOWN], 0, "No advisory is known for 1 of 2 packages"),
        ([WELL, WEAK, UNKNOWN], 1, "weak 2: CVE-1, fixed by 3"),
        ([UNKNOWN], 0, "Not audited"),
        ([], 0, "Not audited"),
    ],
)
def test_an_advisory_fails_the_check(capsys, packages, status, message):
    """An advisory fails the check; packages that could not be looked up are listed."""
    assert tell({"dependencies": packages}) == status
    assert message in capsys.readouterr().out


def test_without_an_answer_the_check_is_skipped_with_a_message(capsys):
    """Without network access the check is skipped with a message."""
    assert tell({}) == 0
    assert "cannot be reached from here" in capsys.readouterr().out
