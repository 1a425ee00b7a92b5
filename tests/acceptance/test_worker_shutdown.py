"""Worker processes end in time and log it, whichever process gets which signal.

`test_crash_safety` covers SIGTERM in mid-job, and `test_outages` during an outage.
"""

import os
import signal
from collections.abc import Callable

import pytest

from tests.acceptance.conftest import StartGroup
from tests.kit.worker_group import WorkerGroup

SendSignal = Callable[[WorkerGroup, signal.Signals], None]


def to_all(group: WorkerGroup, number: signal.Signals) -> None:
    """Signal all processes, as a terminal that closes does."""
    group.signal_all(number)


def to_master(group: WorkerGroup, number: signal.Signals) -> None:
    """Signal only the master."""
    os.kill(group.process.pid, number)


def to_one_worker(group: WorkerGroup, number: signal.Signals) -> None:
    """Signal only one worker process; the master then ends the others."""
    os.kill(group.worker_ids()[0], number)


@pytest.mark.parametrize("send", [to_all, to_master, to_one_worker])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_all_processes_end_and_log_it(
    start_group: StartGroup, send: SendSignal, number: signal.Signals
):
    """SIGHUP has the effect of SIGTERM: each worker process logs `worker.stopped`. The master ends
    with status 0 and without a traceback.
    """
    group = start_group(processes=2)
    send(group, number)
    group.wait_gone(deadline_seconds=30)
    assert group.process.wait(30) == 0
    assert sum('"worker.stopped"' in line for line in group.lines()) == 2
    assert "Traceback" not in group.log.read_text()
