"""Which process of pytest-xdist runs which tests."""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

_ROOT = Path(__file__).parents[2]


class FileScheduling(LoadScopeScheduling):
    """Give each process one test at a time, and all tests of a module with a shared fixture.

    The marker `xdist_group` is not used: with pytest 9.2, xdist 3.8 does not see it.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if _shares_a_fixture(path) else nodeid


@cache
def _shares_a_fixture(path: str) -> bool:
    return 'scope="module"' in (_ROOT / path).read_text()
