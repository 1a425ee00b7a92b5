"""Which process of pytest-xdist runs which tests."""

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_ROOT = Path(__file__).parents[2]


class FileScheduling(LoadScopeScheduling):
    """Give each process one test at a time, and all tests of a module with a shared fixture.

    Half of the processes take tests from the front, where they wait for servers and processes, and
    the others from the end, where they compute. So the cores are never idle.

    The marker `xdist_group` is not used: with pytest 9.2, xdist 3.8 does not see it.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if _shares_a_fixture(path) else nodeid

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@cache
def _shares_a_fixture(path: str) -> bool:
    return 'scope="module"' in (_ROOT / path).read_text()
