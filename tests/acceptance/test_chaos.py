"""A short storm of faults leaves nothing lost and nothing done twice."""

import os
import re
import subprocess
import sys

import pytest

from tests.acceptance.fleet import ROOT
from tests.folders import room_for_servers

LAST_LINE = re.compile(r"chaos: seed=7 faults=(\d+) jobs=(\d+) addresses=(\d+) violations=0")


def test_a_short_storm_violates_nothing():
    """Promises 2 to 5: a quarter of a minute of faults of most kinds, and every check holds, for
    those who asked in Python and for those who asked over HTTP. `make chaos` rages for longer.
    """
    done = subprocess.run(
        [sys.executable, "-m", "chaos", "--seconds", "15", "--seed", "7", "--patience", "8"],
        cwd=ROOT,
        env=os.environ | ({"TMPDIR": memory} if (memory := room_for_servers()) else {}),
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert told, done.stdout
    faults, jobs, addresses = map(int, told.groups())
    assert faults >= 10
    assert jobs > faults
    assert addresses > jobs
    answered = dict(map(reversed, re.findall(r"(\d+) (200|202|no answer)", done.stdout)))
    assert answered.keys() == {"200", "202", "no answer"}, done.stdout


@pytest.mark.parametrize("wrong", [["--seconds", "1"], ["--seed", "x"], ["--unknown"]])
def test_wrong_arguments_are_refused_before_anything_starts(wrong: list[str]):
    """Exit status 2, and a sentence that says which argument it was."""
    done = subprocess.run(
        [sys.executable, "-m", "chaos", *wrong],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert wrong[0] in done.stderr
