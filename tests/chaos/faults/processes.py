"""Faults of worker processes: killed, terminated, stopped."""

import asyncio
import signal
from contextlib import suppress

import psutil

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.kit.waiting import wait_for_async

_COMES_SECONDS = 60.0


async def kill_worker(context: FaultContext, fault: Fault) -> str:
    """Kill a worker process by SIGKILL. Its master ends the group; the platform restarts it."""
    worker = await _some_worker(context, fault)
    context.fleet.end_worker(worker)
    return f"killed worker {worker.pid}"


async def kill_group(context: FaultContext, fault: Fault) -> str:
    """Kill every process of a group by SIGKILL, as if its dyno were lost."""
    return f"killed group {context.fleet.end_group(fault.draw, [signal.SIGKILL])}"


async def terminate_group(context: FaultContext, fault: Fault) -> str:
    """Send SIGTERM twice to every process of a group, as platforms do on a deploy."""
    number = context.fleet.end_group(fault.draw, [signal.SIGTERM, signal.SIGTERM])
    return f"terminated group {number}"


async def stop_worker(context: FaultContext, fault: Fault) -> str:
    """Stop a worker process for longer than any heartbeat, then continue it."""
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
    """Choose a worker that has started; wait for one if there is none."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        found.extend(context.fleet.workers())
        return bool(found)

    if not await wait_for_async(is_there, _COMES_SECONDS):
        raise RuntimeError(f"no worker process started within {_COMES_SECONDS:.0f} s")
    return found[int(fault.draw * len(found))]
