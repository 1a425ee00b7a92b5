"""The statements of db/sql as a process reads them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WITHOUT_FILES = """
import pathlib
from db import import_chunks, jobs, queries
{preload}
pathlib.Path.open = pathlib.Path.read_text = None
jobs._sql.get_job
import_chunks._sql.insert_contacts
"""


@pytest.mark.parametrize("preload", ["queries.preload()", ""])
def test_a_preloaded_process_reads_no_file_of_a_later_version(preload):
    """After `preload`, the first use of a statement reads no file; without it, it does."""
    code = WITHOUT_FILES.format(preload=preload)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True)
    assert (done.returncode == 0) == bool(preload), done.stderr
