"""Postgres restarted without a goodbye, and its connections ended."""

import asyncio

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.chaos.observer import APPLICATION


async def restart(context: FaultContext, fault: Fault) -> str:
    """SIGQUIT to the server, "immediate" mode, and a start some seconds later, with recovery."""
    await asyncio.to_thread(context.servers.crash_postgres)
    try:
        await asyncio.sleep(fault.duration)
    finally:
        await asyncio.to_thread(context.servers.start_postgres)
    return f"away for {fault.duration:.1f} s and its recovery"


async def terminate_connections(context: FaultContext, fault: Fault) -> str:
    """`pg_terminate_backend` of every connection of workers and producers."""
    del fault
    ended = await context.observer.value("terminate_connections", spared=APPLICATION)
    return f"ended {ended} connections"
