"""Faults of the web process: killed, terminated, stopped."""

import asyncio
import signal
from contextlib import suppress

import httpx
import psutil

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.kit.waiting import wait_for_async

_COMES_SECONDS = 60.0
_ANSWER_SECONDS = 2.0


async def kill(context: FaultContext, fault: Fault) -> str:
    """Kill it by SIGKILL: requests under way get no response, and the platform restarts it."""
    del fault
    await _serves(context)
    context.fleet.end_web([signal.SIGKILL])
    return "killed"


async def terminate(context: FaultContext, fault: Fault) -> str:
    """Send SIGTERM twice, as platforms do on a deploy; requests under way get some seconds."""
    del fault
    await _serves(context)
    context.fleet.end_web([signal.SIGTERM, signal.SIGTERM])
    return "terminated"


async def stop(context: FaultContext, fault: Fault) -> str:
    """Stop it for longer than clients wait, then continue it: it answers clients that are gone."""
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
    """Wait until the web process answers, or its successor if it has just ended."""
    async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as client:

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                return (await client.get(f"{context.fleet.web_url}/healthz")).is_success
            return False

        if not await wait_for_async(answers, _COMES_SECONDS):
            raise RuntimeError(f"the web process did not answer within {_COMES_SECONDS:.0f} s")
