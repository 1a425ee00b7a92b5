"""The web process killed, stopped and asked to end."""

import asyncio
import signal
from contextlib import suppress

import httpx
import psutil

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.kit.polling import becomes_true

_COMES_SECONDS = 60.0
_ANSWER_SECONDS = 2.0


async def kill(context: FaultContext, fault: Fault) -> str:
    """`kill -9`: no request under way gets an answer; the platform starts the next process."""
    del fault
    await _serves(context)
    context.fleet.end_web([signal.SIGKILL])
    return "killed"


async def terminate(context: FaultContext, fault: Fault) -> str:
    """SIGTERM, twice, as platforms do on a deploy; requests under way have some seconds."""
    del fault
    await _serves(context)
    context.fleet.end_web([signal.SIGTERM, signal.SIGTERM])
    return "terminated"


async def stop(context: FaultContext, fault: Fault) -> str:
    """SIGSTOP for longer than callers wait, then SIGCONT: it answers those who have left."""
    await _serves(context)
    stopped = context.fleet.web()
    for process in stopped:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        await asyncio.sleep(fault.duration)
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
    return f"stopped for {fault.duration:.0f} s"


async def _serves(context: FaultContext) -> None:
    """Wait until there is a process that answers; where it has just ended, the next that comes."""
    async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as client:

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                return (await client.get(f"{context.fleet.web_url}/healthz")).is_success
            return False

        if not await becomes_true(_COMES_SECONDS, answers):
            raise RuntimeError("the web process did not answer for a long time")
