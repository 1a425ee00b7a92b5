"""Faults of Postgres: crashes and terminated connections."""

import asyncio

from tests.chaos.fault_plan import Fault
from tests.chaos.faults import FaultContext
from tests.chaos.observer import APPLICATION


async def restart(context: FaultContext, fault: Fault) -> str:
    """Stop the server by SIGQUIT ("immediate" mode), and start it some seconds later."""
    await asyncio.to_thread(context.servers.crash_postgres)
    try:
        await asyncio.sleep(fault.duration)
    finally:
        await asyncio.to_thread(context.servers.start_postgres)
    return f"down for {fault.duration:.1f} s and its recovery"


async def terminate_connections(context: FaultContext, fault: Fault) -> str:
    """Terminate every connection of workers and producers."""
    del fault
    ended = await context.observer.value("terminate_connections", spared=APPLICATION)
    return f"terminated {ended} connections"
