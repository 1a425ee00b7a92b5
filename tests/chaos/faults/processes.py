"""Worker processes killed, stopped and asked to end."""

import asyncio
import signal
from contextlib import suppress

import psutil

from tests.chaos.faults import Stage
from tests.chaos.schedule import Fault
from tests.chaos.waiting import within

_COMES_SECONDS = 60.0


async def kill_worker(stage: Stage, fault: Fault) -> str:
    """`kill -9` of one worker process. Its master ends the group; the platform starts it again."""
    worker = await _some_worker(stage, fault)
    stage.fleet.end_worker(worker)
    return f"killed worker {worker.pid}"


async def kill_group(stage: Stage, fault: Fault) -> str:
    """`kill -9` of every process of a group: a dyno is lost."""
    return f"killed group {stage.fleet.end_group(fault.draw, [signal.SIGKILL])}"


async def terminate_group(stage: Stage, fault: Fault) -> str:
    """SIGTERM to every process of a group, twice, as platforms do on a deploy."""
    number = stage.fleet.end_group(fault.draw, [signal.SIGTERM, signal.SIGTERM])
    return f"terminated group {number}"


async def stop_worker(stage: Stage, fault: Fault) -> str:
    """SIGSTOP for longer than any heartbeat, then SIGCONT: it goes on in the middle of its work."""
    worker = await _some_worker(stage, fault)
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
    try:
        await asyncio.sleep(fault.lasts)
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()
    return f"stopped worker {worker.pid} for {fault.lasts:.0f} s"


async def _some_worker(stage: Stage, fault: Fault) -> psutil.Process:
    """A worker that has started; where all are just gone, the next that comes."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found.extend(stage.fleet.workers())
        return bool(found)

    if not await within(_COMES_SECONDS, is_there):
        raise RuntimeError("no worker process started for a long time")
    return found[int(fault.draw * len(found))]
