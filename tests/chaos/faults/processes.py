"""Worker processes killed, stopped and asked to end."""

import asyncio
import signal
from contextlib import suppress

import psutil

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.kit.polling import becomes_true

_COMES_SECONDS = 60.0


async def kill_worker(context: FaultContext, fault: Fault) -> str:
    """`kill -9` of one worker process. Its master ends the group; the platform starts it again."""
    worker = await _some_worker(context, fault)
    context.fleet.end_worker(worker)
    return f"killed worker {worker.pid}"


async def kill_group(context: FaultContext, fault: Fault) -> str:
    """`kill -9` of every process of a group: a dyno is lost."""
    return f"killed group {context.fleet.end_group(fault.draw, [signal.SIGKILL])}"


async def terminate_group(context: FaultContext, fault: Fault) -> str:
    """SIGTERM to every process of a group, twice, as platforms do on a deploy."""
    number = context.fleet.end_group(fault.draw, [signal.SIGTERM, signal.SIGTERM])
    return f"terminated group {number}"


async def stop_worker(context: FaultContext, fault: Fault) -> str:
    """SIGSTOP for longer than any heartbeat, then SIGCONT: it goes on in the middle of its work."""
    worker = await _some_worker(context, fault)
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
    try:
        await asyncio.sleep(fault.duration)
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()
    return f"stopped worker {worker.pid} for {fault.duration:.0f} s"


async def _some_worker(context: FaultContext, fault: Fault) -> psutil.Process:
    """A worker that has started; where all are just gone, the next that comes."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found.extend(context.fleet.workers())
        return bool(found)

    if not await becomes_true(_COMES_SECONDS, is_there):
        raise RuntimeError("no worker process started for a long time")
    return found[int(fault.draw * len(found))]
