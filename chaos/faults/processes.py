"""Worker processes killed, stopped and asked to end."""

import asyncio
import signal
from contextlib import suppress

import psutil

from chaos.faults import Stage
from chaos.schedule import Fault


async def kill_worker(stage: Stage, fault: Fault) -> str:
    """`kill -9` of one worker process. Its master ends the group; the platform starts it again."""
    worker = stage.fleet.worker(fault.draw)
    if worker is None:
        return "no worker was there"
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
    worker = stage.fleet.worker(fault.draw)
    if worker is None:
        return "no worker was there"
    with suppress(psutil.NoSuchProcess):
        worker.suspend()
    try:
        await asyncio.sleep(fault.lasts)
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()
    return f"stopped worker {worker.pid} for {fault.lasts:.0f} s"
